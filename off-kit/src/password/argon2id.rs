//! Argon2 whose memory is reused.

use argon2::{
    Algorithm, Argon2, Block, Params, Version,
    password_hash::{
        CustomizedPasswordHasher, Error, PasswordHasher, Result,
        phc::{Output, ParamsString, PasswordHash, Salt},
    },
};
use std::cell::RefCell;

thread_local! {
    /// The memory of the thread's last hash. New memory for each hash would cost a page fault for each of its 4864
    /// pages. The runtime ends idle blocking threads after some seconds, which frees it.
    static BLOCKS: RefCell<Vec<Block>> = const { RefCell::new(Vec::new()) };
}

/// Hashes like [`Argon2`], and reuses the memory of the thread's last hash.
#[derive(Debug)]
pub(super) struct Argon2id;

impl PasswordHasher<PasswordHash> for Argon2id {
    fn hash_password_with_salt(&self, password: &[u8], salt: &[u8]) -> Result<PasswordHash> {
        self.hash_password_with_params(password, salt, Params::default())
    }
}

impl CustomizedPasswordHasher<PasswordHash> for Argon2id {
    type Params = Params;

    fn hash_password_customized(
        &self,
        password: &[u8],
        salt: &[u8],
        algorithm: Option<&str>,
        version: Option<u32>,
        params: Params,
    ) -> Result<PasswordHash> {
        let algorithm = algorithm.map(Algorithm::try_from).transpose()?.unwrap_or_default();
        let version = version.map(Version::try_from).transpose()?.unwrap_or_default();
        let mut output = [0; Output::MAX_LENGTH];
        let length = params.output_len().unwrap_or(Params::DEFAULT_OUTPUT_LEN);
        let output = output.get_mut(..length).ok_or(Error::OutputSize)?;
        let hash = PasswordHash {
            algorithm: algorithm.ident(),
            version: Some(version.into()),
            params: ParamsString::try_from(&params)?,
            salt: Some(Salt::new(salt)?),
            hash: None,
        };
        BLOCKS.with_borrow_mut(|blocks| {
            let count = params.block_count().max(blocks.len());
            blocks.resize(count, Block::new());
            let argon2 = Argon2::new(algorithm, version, params);
            argon2.hash_password_into_with_memory(password, salt, output, blocks)
        })?;
        Ok(PasswordHash { hash: Some(Output::new(output)?), ..hash })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use argon2::password_hash::PasswordVerifier;

    #[test]
    fn hashes_with_reused_memory_are_those_of_argon2() {
        for m_cost in [64, 1024, 19_456, 256] {
            let params = Params::new(m_cost, 2, 1, None).unwrap();
            let hash = Argon2::from(&params).hash_password(b"correct horse").unwrap();
            assert_eq!(Argon2id.verify_password(b"correct horse", &hash), Ok(()));
            assert_eq!(Argon2id.verify_password(b"battery staple", &hash), Err(Error::PasswordInvalid));
        }
    }
}
