//! Tokens that clients sign themselves: JSON Web Tokens (RFC 7519) with HMAC-SHA-256, whose issuer is an access key. Nothing
//! else is taken: not another algorithm, and none at all.

use crate::fault::Fault;
use crate::secrets;
use crate::store::keys::{self, Access, Key};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use rusqlite::Connection;
use serde::Deserialize;
use sha2::Sha256;

/// Clocks may differ by so much, in seconds.
const SKEW: f64 = 30.0;
/// The longest time that a token may still be valid, in seconds.
const LONGEST: f64 = 3600.0;

/// The head of a token.
#[derive(Deserialize)]
struct Head {
    alg: String,
    /// Extensions that must be understood; none is.
    crit: Option<serde_json::Value>,
}

/// What a token claims. Times are seconds since 1970, perhaps with a fraction.
#[derive(Deserialize)]
struct Claims {
    iss: String,
    exp: f64,
    nbf: Option<f64>,
}

/// Whether a bearer is a token rather than a key: it has three parts.
pub fn is_token(text: &str) -> bool {
    text.split('.').count() == 3
}

/// The key that has signed the token, and when the token is over, in milliseconds since 1970.
///
/// # Errors
/// The store's; and, inside, why the token is refused: `token_invalid` for what is no such token, `token_early` and
/// `token_expired` for one that is good at another time, `invalid_api_key` for a key that is not known or in force, and for
/// another's signature.
pub fn verify(
    connection: &Connection,
    own: &[u8; 32],
    text: &str,
    now: i64,
) -> crate::Result<Result<(Key, i64), Fault>> {
    let Some((claims, signed, signature)) = read(text) else {
        let what = "the token is no JSON Web Token with `iss` and `exp` that is signed with HS256";
        return Ok(Err(refused("token_invalid", what)));
    };
    let key = match keys::find_access_key(connection, &claims.iss, now)? {
        Access::Valid(key) => key,
        Access::Unknown => return Ok(Err(Fault::unauthorised("the access key is not known"))),
        Access::Expired(_) => return Ok(Err(Fault::unauthorised("the access key has expired"))),
        Access::Revoked(_) => return Ok(Err(Fault::unauthorised("the access key was revoked"))),
    };
    let secret = secrets::of_access_key(own, &key);
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).expect("a key of any length");
    mac.update(signed.as_bytes());
    if mac.verify_slice(&signature).is_err() {
        let what = "the token is not signed with the secret of its access key";
        return Ok(Err(Fault::unauthorised(what)));
    }
    Ok(in_time(&claims, now as f64 / 1000.0).map(|()| (key, ((claims.exp + SKEW) * 1000.0) as i64)))
}

/// The claims of a token, the part that is signed, and the signature.
fn read(text: &str) -> Option<(Claims, &str, Vec<u8>)> {
    let (signed, signature) = text.rsplit_once('.')?;
    let (head, claims) = signed.split_once('.')?;
    let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).ok();
    let head: Head = serde_json::from_slice(&decode(head)?).ok()?;
    let claims: Claims = serde_json::from_slice(&decode(claims)?).ok()?;
    (head.alg == "HS256" && head.crit.is_none()).then_some((claims, signed, decode(signature)?))
}

fn in_time(claims: &Claims, now: f64) -> Result<(), Fault> {
    if claims.nbf.is_some_and(|from| now + SKEW < from) {
        return Err(refused("token_early", "the token is not valid yet: compare the clocks"));
    }
    // A number that is none, such as one too large, is never in time.
    let left = claims.exp - now;
    if left > -SKEW && left <= LONGEST + SKEW {
        return Ok(());
    }
    if left > LONGEST {
        return Err(refused("token_invalid", "the token is valid for more than an hour, so it is not taken"));
    }
    Err(refused("token_expired", "the token has expired: sign another one"))
}

fn refused(code: &str, message: &str) -> Fault {
    Fault { code: code.into(), ..Fault::unauthorised(message) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    const OWN: [u8; 32] = [7; 32];
    const NOW: i64 = 1_795_892_400_000;

    fn token(head: &Value, claims: &Value, secret: &str) -> String {
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", part(head), part(claims));
        let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).expect("a key");
        mac.update(signed.as_bytes());
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes()))
    }

    /// RFC 7515, appendix A.1: a token whose key and signature are known.
    #[test]
    fn signatures_are_those_of_the_standard() {
        let text = "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFt\
                    cGxlLmNvbS9pc19yb290Ijp0cnVlfQ.dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
        let key = "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow";
        let (claims, signed, signature) = read(text).expect("a token");
        assert_eq!((claims.iss.as_str(), claims.exp), ("joe", 1_300_819_380.0));
        let mut mac = Hmac::<Sha256>::new_from_slice(&URL_SAFE_NO_PAD.decode(key).expect("a key")).expect("a key");
        mac.update(signed.as_bytes());
        assert!(mac.verify_slice(&signature).is_ok());
    }

    #[test]
    fn tokens_are_taken_from_their_key_alone_and_in_their_time() {
        let store = crate::store::in_memory().expect("a store");
        let (_, key) = keys::create(&store, "anna", "laptop", "free", None, NOW).expect("a key");
        let secret = secrets::of_access_key(&OWN, &key);
        let head = json!({"alg": "HS256", "typ": "JWT"});
        let now = NOW / 1000;
        let claims = |exp: i64, nbf: i64| json!({"iss": key.access_key, "exp": now + exp, "nbf": now + nbf});
        let code = |text: &str| match verify(&store, &OWN, text, NOW).expect("an answer") {
            Ok((found, until)) => {
                assert_eq!(found.id, key.id);
                assert!((NOW + 1..=NOW + 3_660_000).contains(&until), "{until}");
                String::new()
            }
            Err(fault) => fault.code,
        };
        let signed = |claims: &Value| code(&token(&head, claims, &secret));
        for (exp, nbf, expected) in [
            (1800, -5, ""),
            (3600, 0, ""),
            (3630, 29, ""),
            (-29, -5, ""),
            (3631, 0, "token_invalid"),
            (-30, -5, "token_expired"),
            (1800, 31, "token_early"),
        ] {
            assert_eq!(signed(&claims(exp, nbf)), expected, "{exp} {nbf}");
        }
        let good = claims(1800, -5);
        let found = verify(&store, &OWN, &token(&head, &good, &secret), NOW).expect("an answer");
        assert_eq!(found.map(|(_, until)| until), Ok(NOW + 1_830_000), "what it has opened ends with it");
        assert_eq!(signed(&json!({"iss": key.access_key, "exp": now as f64 + 0.5})), "");
        for bad in [json!({"iss": key.access_key}), json!({"exp": now + 9}), json!({"iss": 1, "exp": now}), json!([])] {
            assert_eq!(signed(&bad), "token_invalid", "{bad}");
        }
        assert_eq!(signed(&json!({"iss": "ak_other", "exp": now + 9})), "invalid_api_key");
        assert_eq!(signed(&json!({"iss": key.access_key, "exp": 1e300})), "token_invalid");
        for head in [
            json!({"alg": "none"}),
            json!({"alg": "hs256"}),
            json!({"alg": "RS256"}),
            json!({"alg": "HS512"}),
            json!({"alg": "HS256", "crit": ["x"]}),
            json!({"typ": "JWT"}),
        ] {
            assert_eq!(code(&token(&head, &good, &secret)), "token_invalid", "{head}");
        }
        let text = token(&head, &good, &secret);
        let unsigned = &text[..=text.rfind('.').expect("a dot")];
        assert_eq!(code(unsigned), "invalid_api_key", "without a signature");
        assert_eq!(code(&token(&head, &good, "another secret")), "invalid_api_key");
        for broken in ["", "..", "a.b.c", &text[1..], &format!("{text}="), &format!("{text}.x")] {
            assert_eq!(code(broken), "token_invalid", "{broken}");
        }
        let before = secret.clone();
        keys::renew_secret(&store, &key.id).expect("another secret");
        assert_eq!(code(&token(&head, &good, &before)), "invalid_api_key", "it was replaced");
        let renewed = keys::get(&store, &key.id).expect("a key");
        assert_eq!(code(&token(&head, &good, &secrets::of_access_key(&OWN, &renewed))), "");
        keys::revoke(&store, &key.id, NOW).expect("revoked");
        assert_eq!(code(&token(&head, &good, &secrets::of_access_key(&OWN, &renewed))), "invalid_api_key");
    }
}
