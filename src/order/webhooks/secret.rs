//! Secrets, and what is signed by them.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::hmac;
use ring::rand::{SecureRandom as _, SystemRandom};
use secrecy::{ExposeSecret as _, SecretString};

use crate::error::Error;

/// What secrets begin with.
const PREFIX: &str = "whsec_";

/// A secret: `whsec_` and 32 random bytes in base64.
#[derive(Clone, Debug)]
pub(in crate::order) struct Secret(SecretString);

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(text.into())
    }
}

impl Secret {
    /// A new one.
    ///
    /// # Errors
    /// When the system has no random numbers.
    pub(super) fn new() -> Result<Self, Error> {
        let mut bytes = [0; 32];
        let filled = SystemRandom::new().fill(&mut bytes);
        filled.map_err(|_| Error::internal("the system has no random numbers"))?;
        Ok(format!("{PREFIX}{}", STANDARD.encode(bytes)).into())
    }

    /// Its text, for the store and for the one answer that shows it.
    pub(in crate::order) fn expose(&self) -> &str {
        self.0.expose_secret()
    }

    /// The signature of a message with this `id` and `body`, sent at the Unix time `time`, as a receiver gets it.
    pub(super) fn sign(&self, id: &str, time: i64, body: &str) -> String {
        let text = self.expose();
        // What is not base64 never was a secret of this shop, and nothing that a receiver has verifies it.
        let key = STANDARD.decode(text.strip_prefix(PREFIX).unwrap_or(text)).unwrap_or_default();
        let key = hmac::Key::new(hmac::HMAC_SHA256, &key);
        let signature = hmac::sign(&key, format!("{id}.{time}.{body}").as_bytes());
        format!("v1,{}", STANDARD.encode(signature))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_is_that_of_standard_webhooks() {
        // The example of the reference libraries.
        let secret = Secret::from("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".to_owned());
        let signature =
            secret.sign("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, r#"{"test": 2432232314}"#);
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn a_secret_is_random_and_debug_does_not_show_it() {
        let [one, other] = [Secret::new().unwrap(), Secret::new().unwrap()];
        assert_ne!(one.expose(), other.expose());
        let bytes = STANDARD.decode(one.expose().strip_prefix("whsec_").unwrap()).unwrap();
        assert_eq!(bytes.len(), 32);
        assert!(!format!("{one:?}").contains(one.expose()));
    }
}
