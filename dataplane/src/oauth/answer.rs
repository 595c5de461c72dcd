//! What a token endpoint answers (RFC 6749, section 5).

use std::time::Duration;

use http::StatusCode;
use pregon_core::limits;
use pregon_core::secret::SecretBytes;
use serde_json::Value;

/// How long a token is used of which the answer does not say it, or nothing that makes sense. 5 min: few last less long, and one
/// that does is refused by the receiver and fetched anew.
const LIFE: Duration = Duration::from_secs(300);
/// What a token's life may be: one that ends at once is good for the request at hand, and beyond a day
/// it is asked again whether the client still is one.
const LEAST: f64 = 1.0;
const MOST: f64 = 24.0 * 3600.0;

/// Errors that are told by their name (RFC 6749, section 5.2, and RFC 8707): nothing else of a refusal
/// is repeated.
const ERRORS: [&str; 9] = [
    "invalid_request",
    "invalid_client",
    "invalid_grant",
    "unauthorized_client",
    "unsupported_grant_type",
    "invalid_scope",
    "invalid_target",
    "temporarily_unavailable",
    "server_error",
];

/// A token.
#[derive(Debug)]
pub(super) struct Granted {
    pub(super) token: SecretBytes,
    /// For how long, from the moment when it was asked for.
    pub(super) life: Duration,
}

/// Reads an answer; why it grants nothing, in a few words without anything of it but its status and a
/// known error's name.
pub(super) fn read(status: StatusCode, body: &[u8], truncated: bool) -> Result<Granted, String> {
    let json: Option<Value> = serde_json::from_slice(body).ok();
    if status != StatusCode::OK {
        let error = json.as_ref().and_then(|json| json.get("error")).and_then(Value::as_str);
        let known = error.and_then(|error| ERRORS.iter().find(|known| **known == error));
        let number = status.as_u16();
        return Err(match known {
            Some(error) => format!("answered {number} {error}"),
            None => format!("answered {number}"),
        });
    }
    if truncated {
        return Err("the answer is longer than 64 KiB or breaks off".to_owned());
    }
    let json = json.filter(Value::is_object).ok_or("the answer is no JSON object")?;
    let text = |name| json.get(name).and_then(Value::as_str);
    match text("token_type") {
        Some(kind) if kind.eq_ignore_ascii_case("bearer") => {}
        Some(_) => return Err("the answer's token_type is not bearer".to_owned()),
        None => return Err("the answer has no token_type".to_owned()),
    }
    let token = text("access_token").filter(|token| !token.is_empty());
    let token = token.ok_or("the answer has no access_token")?;
    if token.len() > limits::CREDENTIAL_LEN {
        return Err(format!("the token is longer than {} bytes", limits::CREDENTIAL_LEN));
    }
    if !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err("the token is not visible ASCII".to_owned());
    }
    let token = SecretBytes::new(token.as_bytes().to_vec());
    Ok(Granted { token, life: life(json.get("expires_in")) })
}

/// `expires_in`: seconds, as a number; some servers write it as text.
fn life(given: Option<&Value>) -> Duration {
    let seconds = match given {
        Some(Value::Number(number)) => number.as_f64(),
        Some(Value::String(text)) => text.trim().parse().ok(),
        None | Some(Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_)) => None,
    };
    let seconds: Option<f64> = seconds.filter(|seconds| *seconds >= 0.0); // NaN is not
    seconds.map_or(LIFE, |seconds| Duration::from_secs_f64(seconds.clamp(LEAST, MOST)))
}
