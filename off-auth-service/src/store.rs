//! Database access: all SQL of the service.

mod accounts;
mod attempts;
mod clients;
mod device_keys;
mod security_events;
mod sessions;
mod signing_keys;

pub(crate) use accounts::{Account, confirm_account, find_email, update_password};
pub(crate) use attempts::{Attempt, delete_past_attempts, give_back_attempt, take_attempt};
pub(crate) use clients::list_client_secrets;
pub(crate) use device_keys::{
    Extent, NewDeviceKey, NotInserted, delete_revoked_device_keys, find_device_key, insert_device_key,
    list_device_keys, record_use, revoke_device_keys,
};
pub(crate) use security_events::insert_security_event;
pub(crate) use sessions::{
    NewSession, delete_ended_sessions, end_other_sessions, end_own_session, end_session, end_surplus_sessions,
    has_session_key, insert_session, list_sessions, lock_session, refresh_session, use_session_key,
};
pub(crate) use signing_keys::{
    StoredKey, delete_retired_signing_keys, insert_signing_key, list_signing_keys, lock_signing_keys, move_signing_key,
    retire_signing_key,
};
