//! AWS's published test suite, as botocore carries it (Apache-2.0), and what a client may not do.

use proptest::prelude::*;
use serde::Deserialize;

use super::*;

const SECRET: &[u8] = b"wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";

#[derive(Deserialize)]
struct Vector {
    name: String,
    request: String,
    canonical: String,
    authorization: String,
}

fn vectors() -> Vec<Vector> {
    serde_json::from_str(include_str!("../../../tests/vectors/aws4-testsuite.json")).unwrap()
}

/// A request of the suite: a request line, headers (some folded), and a body.
struct Parsed {
    method: String,
    path: String,
    query: String,
    headers: Vec<(String, Vec<u8>)>,
    body: Vec<u8>,
}

impl Parsed {
    fn new(text: &str) -> Self {
        let (head, body) = text.split_once("\n\n").unwrap_or((text, ""));
        let mut lines = head.lines();
        let line = lines.next().unwrap();
        let (method, rest) = line.split_once(' ').unwrap();
        let target = rest.rsplit_once(' ').unwrap().0;
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let mut headers: Vec<(String, Vec<u8>)> = Vec::new();
        for line in lines {
            match line.split_once(':') {
                Some((name, value)) if !line.starts_with(' ') => {
                    headers.push((name.to_owned(), value.into()));
                }
                // A folded line goes on with the value (RFC 9112, section 5.2).
                _ => {
                    let value = &mut headers.last_mut().unwrap().1;
                    value.extend_from_slice(line.as_bytes());
                }
            }
        }
        Self {
            method: method.to_owned(),
            path: path.to_owned(),
            query: query.to_owned(),
            headers,
            body: body.into(),
        }
    }

    fn with<T>(&self, use_it: impl FnOnce(&Request<'_>) -> T) -> T {
        let headers: Vec<(&str, &[u8])> = self
            .headers
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_slice()))
            .collect();
        use_it(&Request {
            method: &self.method,
            path: &self.path,
            query: &self.query,
            headers: &headers,
            body: &self.body,
        })
    }

    fn set(&mut self, name: &str, value: &str) {
        self.headers
            .retain(|(other, _)| !other.eq_ignore_ascii_case(name));
        self.headers.push((name.to_owned(), value.into()));
    }
}

#[test]
fn the_published_vectors() {
    let vectors = vectors();
    assert_eq!(vectors.len(), 34);
    for vector in vectors {
        let parsed = Parsed::new(&vector.request);
        let authorization = Authorization::parse(&vector.authorization)
            .unwrap_or_else(|error| panic!("{}: {error}", vector.name));
        let (canonical, signature) = parsed.with(|request| {
            (
                authorization.canonical(request).unwrap(),
                authorization
                    .signature(request, SECRET, "20150830T123600Z")
                    .unwrap(),
            )
        });
        assert_eq!(canonical, vector.canonical, "{}", vector.name);
        assert_eq!(signature, authorization.signature, "{}", vector.name);
    }
}

fn at(text: &str) -> Timestamp {
    iso8601::parse(text).unwrap()
}

/// A request that KMS would get, and its signature.
fn signed() -> (Parsed, String) {
    let mut parsed = Parsed::new(
        "POST / HTTP/1.1\nHost:kms.us-east-1.amazonaws.com\nX-Amz-Date:20150830T123600Z\nX-Amz-Target:TrentService.ListKeys\n\
         Content-Type:application/x-amz-json-1.1\n\n{\"Limit\":5}",
    );
    let authorization = sign(
        &parsed,
        "AKID/20150830/us-east-1/kms/aws4_request",
        "content-type;host;x-amz-date;x-amz-target",
    );
    parsed.set("Authorization", &authorization);
    (parsed, authorization)
}

fn sign(parsed: &Parsed, credential: &str, headers: &str) -> String {
    let unsigned = |signature: &str| {
        format!(
            "AWS4-HMAC-SHA256 Credential={credential}, SignedHeaders={headers}, Signature={signature}"
        )
    };
    let text = unsigned(&"0".repeat(64));
    let authorization = Authorization::parse(&text).unwrap();
    let signature = parsed.with(|request| {
        authorization
            .signature(request, SECRET, "20150830T123600Z")
            .unwrap()
    });
    let mut hex = String::new();
    push_hex(&mut hex, &signature);
    unsigned(&hex)
}

fn verify_at(parsed: &Parsed, now: &str) -> Result<()> {
    parsed.with(|request| Authorization::of(request)?.verify(request, SECRET, at(now)))
}

fn verify(parsed: &Parsed) -> Result<()> {
    verify_at(parsed, "2015-08-30T12:38:00Z")
}

#[test]
fn a_right_signature_is_believed_for_five_minutes() {
    let (parsed, _) = signed();
    assert_eq!(verify(&parsed), Ok(()));
    assert_eq!(verify_at(&parsed, "2015-08-30T12:41:00Z"), Ok(()));
    assert_eq!(verify_at(&parsed, "2015-08-30T12:31:00Z"), Ok(()));
    let expired = verify_at(&parsed, "2015-08-30T12:41:01Z").unwrap_err();
    assert_eq!(
        expired.to_string(),
        "Signature expired: 20150830T123600Z is now earlier than 20150830T123601Z (20150830T124101Z - 5 min.)"
    );
    let early = verify_at(&parsed, "2015-08-30T12:30:59Z").unwrap_err();
    assert!(
        early.to_string().starts_with("Signature not yet current"),
        "{early}"
    );
    assert_eq!(
        (expired.json_code(), early.query_code()),
        ("InvalidSignatureException", "SignatureDoesNotMatch")
    );
}

#[test]
fn what_was_changed_is_not_believed() {
    let (right, authorization) = signed();
    let changed = |change: &dyn Fn(&mut Parsed)| {
        let mut parsed = Parsed {
            headers: right.headers.clone(),
            body: right.body.clone(),
            method: right.method.clone(),
            path: right.path.clone(),
            query: right.query.clone(),
        };
        change(&mut parsed);
        verify(&parsed)
    };
    let wrong = Err(AuthError::Mismatch);
    assert_eq!(changed(&|_| ()), Ok(()));
    assert_eq!(changed(&|p| p.body = b"{\"Limit\":6}".to_vec()), wrong);
    assert_eq!(changed(&|p| p.method = "PUT".to_owned()), wrong);
    assert_eq!(changed(&|p| p.path = "/x".to_owned()), wrong);
    assert_eq!(changed(&|p| p.query = "a=b".to_owned()), wrong);
    assert_eq!(
        changed(&|p| p.set("X-Amz-Target", "TrentService.CreateKey")),
        wrong
    );
    assert_eq!(changed(&|p| p.set("Host", "evil")), wrong);
    assert_eq!(changed(&|p| p.set("X-Amz-Date", "20150830T123601Z")), wrong);
    assert_eq!(
        changed(&|p| p.set(
            "Authorization",
            &authorization.replace("us-east-1", "eu-west-1")
        )),
        wrong
    );
    let last = if authorization.ends_with('0') {
        "1"
    } else {
        "0"
    };
    let flipped = authorization[..authorization.len() - 1].to_owned() + last;
    assert_eq!(changed(&|p| p.set("Authorization", &flipped)), wrong);
    // A header that only AWS reads, put in by somebody on the way.
    assert!(matches!(
        changed(&|p| p.set("X-Amz-Security-Token", "x")),
        Err(AuthError::Incomplete(_))
    ));
    assert!(matches!(
        changed(&|p| p.headers.retain(|h| h.0 != "X-Amz-Target")),
        Err(AuthError::Incomplete(_))
    ));
    assert_eq!(
        changed(&|p| p.headers.retain(|h| h.0 != "Authorization")),
        Err(AuthError::Missing)
    );
    let twice = |p: &mut Parsed| {
        p.headers
            .push(("authorization".to_owned(), authorization.clone().into()));
    };
    assert!(matches!(changed(&twice), Err(AuthError::Incomplete(_))));
}

#[test]
fn the_payload_is_hashed_here() {
    let (mut parsed, _) = signed();
    parsed.set("X-Amz-Content-Sha256", &"0".repeat(64));
    let names = "content-type;host;x-amz-content-sha256;x-amz-date;x-amz-target";
    parsed.body.clear(); // what is signed does not name this body
    let text = format!(
        "AWS4-HMAC-SHA256 Credential=AKID/20150830/us-east-1/kms/aws4_request, SignedHeaders={names}, Signature={}",
        "0".repeat(64)
    );
    let authorization = Authorization::parse(&text).unwrap();
    assert_eq!(
        parsed.with(|request| authorization.canonical(request)),
        Err(AuthError::Mismatch)
    );
}

#[test]
fn what_must_be_signed() {
    let (mut parsed, _) = signed();
    for headers in [
        "host;x-amz-date",
        "content-type;x-amz-date;x-amz-target",
        "content-type;host;x-amz-target",
    ] {
        let authorization = sign(&parsed, "AKID/20150830/us-east-1/kms/aws4_request", headers);
        parsed.set("Authorization", &authorization);
        assert!(
            matches!(verify(&parsed), Err(AuthError::Incomplete(_))),
            "{headers}"
        );
    }
    let other_day = sign(
        &parsed,
        "AKID/20150831/us-east-1/kms/aws4_request",
        "content-type;host;x-amz-date;x-amz-target",
    );
    parsed.set("Authorization", &other_day);
    assert!(matches!(verify(&parsed), Err(AuthError::Scope(_))));
}

#[test]
fn malformed_headers() {
    let (_, right) = signed();
    for wrong in [
        "",
        "AWS4-HMAC-SHA256",
        "AWS4-HMAC-SHA256Credential=a",
        "AWS4-ECDSA-P256-SHA256 Credential=a",
        &right.replace("AKID/", ""),
        &right.replace("AKID", ""),
        &right.replace("AKID", "a b"),
        &right.replace("20150830/", "2015083/"),
        &right.replace("aws4_request", "aws5_request"),
        &right.replace("content-type;host", "host;content-type"),
        &right.replace("content-type;host", "Content-Type;host"),
        &right.replace("content-type;host", ";host"),
        &right.replace("Signature=", "Signature=0"),
        &right.replace("Signature=", "Signatur="),
        &right.replace("Credential=", "Signature="),
        &(right.clone() + ", Credential=a/b/c/d/aws4_request"),
        &(right.clone() + ", Extra"),
    ] {
        assert!(
            matches!(Authorization::parse(wrong), Err(AuthError::Incomplete(_))),
            "{wrong}"
        );
    }
}

proptest! {
    #[test]
    fn any_header(text in "\\PC*|(AWS4-HMAC-SHA256 )?[A-Za-z0-9=/;, -]*") {
        let _ = Authorization::parse(&text);
    }

    #[test]
    fn any_request(path in "\\PC*", query in "\\PC*", value in prop::collection::vec(any::<u8>(), 0..20)) {
        let (parsed, _) = signed();
        let mut parsed = Parsed { path, query, ..parsed };
        parsed.headers.push(("host".to_owned(), value));
        prop_assert!(verify(&parsed).is_err());
    }
}

#[test]
fn what_is_signed_here_is_believed_here() {
    let (mut parsed, right) = signed();
    parsed.headers.retain(|header| header.0 != "Authorization");
    let signer = Signer {
        access_key: "AKID",
        secret: SECRET,
        region: "us-east-1",
        service: "kms",
    };
    let made = parsed.with(|request| signer.sign(request, "20150830T123600Z").unwrap());
    assert_eq!(made, right);
    assert_eq!(basic(at("2015-08-30T12:36:00.5Z")), "20150830T123600Z");
}
