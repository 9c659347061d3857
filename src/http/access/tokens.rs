//! Which configured token somebody presents.
//!
//! Hashes with SHA-256 are of long random tokens; they are compared at once. Hashes with Argon2 are of tokens that people
//! choose: they take time on purpose, so they are verified off the threads that answer requests, a few at a time, with a
//! short queue, and only as often as an address may try.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use argon2::PasswordVerifier;
use argon2::password_hash::phc::PasswordHash;
use sha2::{Digest, Sha256};
use tokio::sync::Semaphore;

use super::attempts::{Attempts, Network};
use super::remembered::Remembered;
use crate::config::TokenConfig;

/// Tokens longer than this are not looked at.
const TOKEN_BYTES_MAX: usize = 512;
/// Right and wrong tokens that are remembered, so that not every request costs Argon2's time.
const REMEMBERED_MAX: usize = 4096;
/// Requests that wait for Argon2, those it works for included.
const WAITING_MAX: usize = 16;

pub(super) type Sha = [u8; 32];

/// Why a token is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    /// No token's hash fits.
    Wrong,
    /// The address has tried too often; this long until it may again.
    Limited(Duration),
    /// Too many tokens wait to be verified.
    Busy,
}

#[derive(Debug)]
struct Known {
    config: TokenConfig,
    /// Of a token with a plain digest.
    digest: Option<Sha>,
    /// Of the configured hash: tells whether the token is still the same.
    fingerprint: Sha,
}

/// The configured tokens.
#[derive(Debug)]
pub(super) struct Tokens {
    known: Arc<[Known]>,
    attempts: Attempts,
    /// Digests of tokens that Argon2 has accepted, for each address: elsewhere, somebody may be guessing.
    right: Mutex<Remembered<(Sha, Network), usize>>,
    wrong: Mutex<Remembered<Sha, ()>>,
    verifiers: Arc<Semaphore>,
    waiting: AtomicUsize,
}

/// One who waits, until dropped.
struct Waiting<'a>(&'a AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Tokens {
    pub(super) fn new(tokens: &[TokenConfig], attempts_per_minute: u32) -> Self {
        let known = tokens.iter().map(|config| Known {
            digest: config.hash.reveal().strip_prefix("sha256:").and_then(digest_of_hex),
            fingerprint: Sha256::digest(config.hash.reveal()).into(),
            config: config.clone(),
        });
        // Half of the processors at most: the others answer.
        let verifiers = (std::thread::available_parallelism().map_or(1, std::num::NonZero::get) / 2).clamp(1, 4);
        Self {
            known: known.collect(),
            attempts: Attempts::new(attempts_per_minute),
            right: Mutex::new(Remembered::new(REMEMBERED_MAX)),
            wrong: Mutex::new(Remembered::new(REMEMBERED_MAX)),
            verifiers: Arc::new(Semaphore::new(verifiers)),
            waiting: AtomicUsize::new(0),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    /// The token of this name, if its configured hash is still the one with this digest.
    pub(super) fn unchanged(&self, name: &str, fingerprint: &[u8]) -> Option<&TokenConfig> {
        let known = self.known.iter().find(|known| known.config.name == name)?;
        equal(&known.fingerprint, fingerprint).then_some(&known.config)
    }

    /// The digest of a token's configured hash.
    pub(super) fn fingerprint(config: &TokenConfig) -> Sha {
        Sha256::digest(config.hash.reveal()).into()
    }

    /// The token that this is.
    pub(super) async fn find(&self, token: &str, network: Network) -> Result<&TokenConfig, Refusal> {
        let digest: Sha = Sha256::digest(token.as_bytes()).into();
        let is_plain = |known: &&Known| known.digest.is_some_and(|known| equal(&known, &digest));
        if let Some(known) = self.known.iter().find(is_plain) {
            return Ok(&known.config);
        }
        let remembered = self.right.lock().unwrap_or_else(PoisonError::into_inner).get(&(digest, network)).copied();
        if let Some(known) = remembered.and_then(|index| self.known.get(index)) {
            return Ok(&known.config);
        }
        self.attempts.take(network, Instant::now()).map_err(Refusal::Limited)?;
        let is_known_wrong = || self.wrong.lock().unwrap_or_else(PoisonError::into_inner).get(&digest).is_some();
        if token.is_empty() || token.len() > TOKEN_BYTES_MAX || is_known_wrong() {
            return Err(Refusal::Wrong);
        }
        let index = self.verify(token).await?;
        let Some(known) = index.and_then(|index| self.known.get(index)) else {
            self.wrong.lock().unwrap_or_else(PoisonError::into_inner).insert(digest, ());
            return Err(Refusal::Wrong);
        };
        self.attempts.give_back(network);
        let mut right = self.right.lock().unwrap_or_else(PoisonError::into_inner);
        right.insert((digest, network), index.unwrap_or_default());
        Ok(&known.config)
    }

    /// Lets Argon2 look for the token, in its turn.
    async fn verify(&self, token: &str) -> Result<Option<usize>, Refusal> {
        if self.known.iter().all(|known| known.digest.is_some()) {
            return Ok(None);
        }
        if self.waiting.fetch_add(1, Ordering::Relaxed) >= WAITING_MAX {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
            return Err(Refusal::Busy);
        }
        let _waiting = Waiting(&self.waiting);
        let permit = Arc::clone(&self.verifiers).acquire_owned().await.map_err(|_| Refusal::Busy)?;
        let (known, token) = (Arc::clone(&self.known), token.to_owned());
        let verified = tokio::task::spawn_blocking(move || {
            // Held until the work is done, also if nobody waits for it any more.
            let _permit = permit;
            known.iter().position(|known| {
                known.digest.is_none()
                    && PasswordHash::new(known.config.hash.reveal())
                        .is_ok_and(|hash| argon2::Argon2::default().verify_password(token.as_bytes(), &hash).is_ok())
            })
        });
        verified.await.map_err(|_| Refusal::Busy)
    }
}

/// Compares without telling by its time where the first difference is.
pub(super) fn equal(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |difference, (a, b)| difference | (a ^ b)) == 0
}

pub(super) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("writing to memory does not fail");
        text
    })
}

fn digest_of_hex(text: &str) -> Option<Sha> {
    let mut digest = [0; 32];
    for (index, byte) in digest.iter_mut().enumerate() {
        *byte = u8::from_str_radix(text.get(2 * index..2 * index + 2)?, 16).ok()?;
    }
    (text.len() == 64).then_some(digest)
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use argon2::PasswordHasher;

    use super::*;
    use crate::config::{Secret, TokenRole};
    use crate::http::new_token;

    const HERE: Network = Network::UNKNOWN;

    fn elsewhere() -> Network {
        Network::of(IpAddr::V4(Ipv4Addr::LOCALHOST))
    }

    fn token(name: &str, hash: String) -> TokenConfig {
        TokenConfig { name: name.to_owned(), role: TokenRole::Admin, hash: Secret::new(hash) }
    }

    /// Weak, so that tests are quick.
    fn chosen(name: &str, word: &str) -> TokenConfig {
        let params = argon2::Params::new(64, 1, 1, None).unwrap();
        let argon = argon2::Argon2::new(argon2::Algorithm::Argon2id, argon2::Version::V0x13, params);
        token(name, argon.hash_password(word.as_bytes()).unwrap().to_string())
    }

    #[tokio::test]
    async fn a_chosen_token_may_be_kept_as_an_argon2_hash_and_a_long_one_as_a_digest() {
        let (long, hash) = new_token();
        let tokens = Tokens::new(&[chosen("ann", "correct horse"), token("ops", hash)], 10);
        for _ in 0..20 {
            assert_eq!(tokens.find("correct horse", HERE).await.unwrap().name, "ann");
            assert_eq!(tokens.find(&long, HERE).await.unwrap().name, "ops");
        }
        assert_eq!(tokens.find("battery staple", HERE).await, Err(Refusal::Wrong));
        assert_eq!(tokens.find("", HERE).await, Err(Refusal::Wrong));
    }

    #[tokio::test]
    async fn wrong_tokens_use_up_an_addresss_attempts_and_lock_out_nobody_else() {
        let (long, hash) = new_token();
        let tokens = Tokens::new(&[chosen("ann", "correct horse"), token("ops", hash)], 5);
        assert!(tokens.find("correct horse", HERE).await.is_ok());
        for number in 0..5 {
            assert_eq!(tokens.find(&format!("wrong {number}"), HERE).await, Err(Refusal::Wrong));
        }
        assert!(matches!(tokens.find("wrong again", HERE).await, Err(Refusal::Limited(_))));
        assert!(tokens.find("correct horse", HERE).await.is_ok(), "it was right from this address before");
        assert!(tokens.find(&long, HERE).await.is_ok(), "nobody guesses a long random token");
        assert!(tokens.find("correct horse", elsewhere()).await.is_ok());
    }

    #[tokio::test]
    async fn a_chosen_token_in_use_elsewhere_cannot_be_guessed_faster_for_that() {
        let tokens = Tokens::new(&[chosen("ann", "correct horse")], 2);
        assert!(tokens.find("correct horse", elsewhere()).await.is_ok());
        for wrong in ["a", "b"] {
            assert_eq!(tokens.find(wrong, HERE).await, Err(Refusal::Wrong));
        }
        assert!(matches!(tokens.find("correct horse", HERE).await, Err(Refusal::Limited(_))));
    }

    #[tokio::test]
    async fn a_queue_that_is_full_turns_away() {
        let tokens = Tokens::new(&[chosen("ann", "correct horse")], 1000);
        let permits = tokens.verifiers.available_permits();
        let _all = tokens.verifiers.acquire_many(u32::try_from(permits).unwrap()).await.unwrap();
        let names: Vec<_> = (0..WAITING_MAX + 3).map(|number| format!("wrong {number}")).collect();
        let asked = futures_util::future::join_all(
            names
                .iter()
                .map(|name| async { tokio::time::timeout(Duration::from_millis(50), tokens.find(name, HERE)).await }),
        )
        .await;
        let answered: Vec<_> = asked.into_iter().flatten().collect();
        assert_eq!(answered, [Err(Refusal::Busy); 3]);
        assert_eq!(tokens.waiting.load(Ordering::Relaxed), 0, "who has gone away waits no longer");
    }

    #[test]
    fn a_token_with_another_hash_is_another_token() {
        let (before, after) = (token("ops", new_token().1), token("ops", new_token().1));
        let tokens = Tokens::new(std::slice::from_ref(&after), 1);
        assert!(tokens.unchanged("ops", &Tokens::fingerprint(&after)).is_some());
        assert!(tokens.unchanged("ops", &Tokens::fingerprint(&before)).is_none());
        assert!(tokens.unchanged("ann", &Tokens::fingerprint(&after)).is_none());
    }
}
