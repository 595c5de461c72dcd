//! A request as it is shown: for people as it goes over the wire, for programs as JSON.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use pregon_core::contract::Tried;
use serde_json::{Value, json};

/// How every delivery is sent.
const METHOD: &str = "POST";

/// For people: the request, then each signature's name with the bytes that it signs.
pub fn plain(tried: &Tried) -> Vec<u8> {
    let signed = &tried.signed;
    let mut text = format!("{METHOD} {}\n", tried.url).into_bytes();
    for line in &signed.headers {
        text.extend_from_slice(line.name.as_bytes());
        text.extend_from_slice(b": ");
        text.extend_from_slice(&line.value);
        text.push(b'\n');
    }
    text.push(b'\n');
    if let Some(plain) = &signed.plain {
        let packed = signed.body.len();
        text.extend(format!("(before gzip, which makes {packed} bytes of it)\n").into_bytes());
        readable(&mut text, plain);
    } else {
        readable(&mut text, &signed.body);
    }
    for made in &tried.signatures {
        let head = format!("\nsignature {} of key {}, over:\n", made.name, made.key);
        text.extend(head.into_bytes());
        readable(&mut text, &made.payload);
    }
    text
}

/// Appends text and a line break; of what is no text its length.
fn readable(text: &mut Vec<u8>, bytes: &[u8]) {
    match std::str::from_utf8(bytes) {
        Ok(_) => text.extend_from_slice(bytes),
        Err(_) => {
            let length = bytes.len();
            text.extend(format!("({length} bytes that are no text; see --json)").into_bytes());
        }
    }
    text.push(b'\n');
}

/// For programs: one object on one line.
pub fn json(tried: &Tried) -> Vec<u8> {
    let signed = &tried.signed;
    let headers: Vec<_> = signed
        .headers
        .iter()
        .map(|line| json!({"name": &*line.name, "value": String::from_utf8_lossy(&line.value)}))
        .collect();
    let signatures: Vec<_> = tried
        .signatures
        .iter()
        .map(|made| {
            let mut shown =
                json!({"name": &*made.name, "key": made.key.as_str(), "value": made.value});
            put(&mut shown, "payload", &made.payload);
            shown
        })
        .collect();
    let mut shown = json!({
        "method": METHOD,
        "url": &*tried.url,
        "headers": headers,
        "signatures": signatures,
    });
    put(&mut shown, "body", &signed.body);
    if let Some(plain) = &signed.plain {
        put(&mut shown, "body_before_gzip", plain);
    }
    let mut text = shown.to_string().into_bytes();
    text.push(b'\n');
    text
}

/// A member with a text; of what is no text `…_base64`.
fn put(shown: &mut Value, name: &str, bytes: &[u8]) {
    match std::str::from_utf8(bytes) {
        Ok(text) => shown[name] = text.into(),
        Err(_) => shown[format!("{name}_base64")] = BASE64.encode(bytes).into(),
    }
}
