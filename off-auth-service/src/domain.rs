//! Rules: limits of sign-in attempts, sessions and refresh tokens, when keys sign, and security events.

mod attempts;
mod device_key;
mod refresh_token;
mod security_event;
mod session;
mod signing_period;

pub(crate) use attempts::{AttemptKey, AttemptLimit, AttemptLimits, FullAt, normal_email, whole_seconds};
pub(crate) use device_key::{DeviceKey, Label};
pub(crate) use refresh_token::{RefreshKey, RefreshToken};
pub(crate) use security_event::{EventKind, SecurityEvent};
pub(crate) use session::{Judgement, MAX_SESSIONS, OwnSession, Session, SessionLimits};
pub(crate) use signing_period::{MAX_PUBLISHED_KEYS, NextStep, PUBLISHED_BEFORE, SigningPeriod, SigningState};
