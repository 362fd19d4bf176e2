//! Encryption at rest: XChaCha20-Poly1305 under a key that the data directory does not hold.
//!
//! | offset | bytes | what |
//! |---|---|---|
//! | 0 | 24 | nonce: keyed BLAKE3 of the plain bytes |
//! | 24 | n | the bytes, encrypted |
//! | 24 + n | 16 | tag |
//!
//! Encrypted are the payloads of CHUNK and META records and the values in the index. What the data directory still
//! shows: the sizes of records, the ids of chunks (so: whether a known file is stored), and the keys of the index, which
//! sled must be able to sort: numbers of nodes, names in folders, names of extended attributes, of users and of locks.
//!
//! A nonce made from the plain bytes needs no randomness and can repeat only where the plain bytes do; it then
//! tells that two payloads are equal, which chunk ids tell anyway.

use chacha20poly1305::aead::{AeadInPlace, KeyInit};
use chacha20poly1305::{Tag, XChaCha20Poly1305, XNonce};
use larder_core::{Error, Result};

/// Bytes that encryption adds to a payload.
pub const SEAL_BYTES: usize = NONCE_BYTES + TAG_BYTES;
const NONCE_BYTES: usize = 24;
const TAG_BYTES: usize = 16;

/// Encrypts and decrypts what a store keeps.
pub struct Seal {
    cipher: XChaCha20Poly1305,
    nonce_key: [u8; 32],
    /// Tells a wrong key from a damaged store.
    check: [u8; 8],
}

impl Seal {
    /// Derives what is needed from the user's `key`.
    pub fn new(key: &[u8; 32]) -> Self {
        let derive = |what: &str| blake3::derive_key(what, key);
        let check = derive("larder 2026 store key check");
        Self {
            cipher: XChaCha20Poly1305::new(&derive("larder 2026 store encryption").into()),
            nonce_key: derive("larder 2026 store nonces"),
            check: check[..8].try_into().expect("8 of 32 bytes"),
        }
    }

    /// Names the key without telling it.
    pub fn check(&self) -> [u8; 8] {
        self.check
    }

    /// Encrypts `plain`.
    pub fn seal(&self, plain: &[u8]) -> Vec<u8> {
        let nonce = blake3::keyed_hash(&self.nonce_key, plain);
        let nonce = XNonce::from_slice(&nonce.as_bytes()[..NONCE_BYTES]);
        let mut sealed = Vec::with_capacity(plain.len() + SEAL_BYTES);
        sealed.extend_from_slice(nonce);
        sealed.extend_from_slice(plain);
        let tag = self.cipher.encrypt_in_place_detached(nonce, b"", &mut sealed[NONCE_BYTES..]);
        sealed.extend_from_slice(&tag.expect("payloads are far below 256 GiB"));
        sealed
    }

    /// Decrypts `sealed` in its own memory.
    ///
    /// # Errors
    /// `Corrupt` where it is not what [`Seal::seal`] made under this key.
    pub fn open(&self, mut sealed: Vec<u8>) -> Result<Vec<u8>> {
        let corrupt = || Error::corrupt("encrypted record");
        let tag_at =
            sealed.len().checked_sub(TAG_BYTES).filter(|at| *at >= NONCE_BYTES).ok_or_else(corrupt)?;
        let tag = Tag::clone_from_slice(&sealed[tag_at..]);
        sealed.truncate(tag_at);
        let (nonce, body) = sealed.split_at_mut(NONCE_BYTES);
        let nonce = XNonce::from_slice(nonce);
        self.cipher.decrypt_in_place_detached(nonce, b"", body, &tag).map_err(|_| corrupt())?;
        sealed.drain(..NONCE_BYTES);
        Ok(sealed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sealed_bytes_come_back_and_a_flipped_bit_does_not() {
        let seal = Seal::new(&[1; 32]);
        for len in [0, 1, 1000] {
            let plain = vec![7; len];
            let sealed = seal.seal(&plain);
            assert_eq!(sealed.len(), len + SEAL_BYTES);
            assert_eq!(seal.open(sealed.clone()).expect("ours"), plain);
            assert!(Seal::new(&[2; 32]).open(sealed.clone()).is_err());
            for byte in 0..sealed.len() {
                let mut bad = sealed.clone();
                bad[byte] ^= 1;
                assert!(seal.open(bad).is_err());
            }
        }
        assert!(seal.open(vec![0; 39]).is_err());
    }
}
