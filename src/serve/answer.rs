//! Answers: JSON 1.1 for AWS KMS, XML for AWS STS, refusals in the form of each.

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::{Response, StatusCode};
use serde_json::json;
use zeroize::Zeroizing;

use super::sigv4::AuthError;
use crate::kms::KmsError;

pub(super) type Answer = Response<Full<Bytes>>;

const JSON: &str = "application/x-amz-json-1.1";
const XML: &str = "text/xml";

/// Bytes that are wiped when they have been sent.
struct Wiped(Zeroizing<Vec<u8>>);

impl AsRef<[u8]> for Wiped {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

fn answer(status: StatusCode, kind: &'static str, body: Bytes, request_id: &str) -> Answer {
    let mut answer = Response::new(Full::new(body));
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(
        CACHE_CONTROL,
        HeaderValue::from_static("no-cache, no-store, must-revalidate, private"),
    );
    if let Ok(id) = HeaderValue::from_str(request_id) {
        headers.insert("x-amzn-requestid", id);
    }
    answer
}

/// What an operation gave; its buffer is wiped afterwards.
pub(super) fn done(body: Zeroizing<Vec<u8>>, request_id: &str) -> Answer {
    answer(
        StatusCode::OK,
        JSON,
        Bytes::from_owner(Wiped(body)),
        request_id,
    )
}

/// A refusal in the JSON protocol.
pub(super) fn refused(status: u16, code: &str, message: &str, request_id: &str) -> Answer {
    let body = json!({"__type": code, "message": message}).to_string();
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_REQUEST);
    answer(status, JSON, body.into(), request_id)
}

/// The key manager's refusal. What concerns the keystore itself is for the log, not for clients.
pub(super) fn failed(error: &KmsError, request_id: &str) -> Answer {
    let status = error.http_status();
    if status >= 500 {
        tracing::error!(%error, request_id, "a request failed");
        return refused(
            status,
            error.code(),
            "The request failed because of an internal error.",
            request_id,
        );
    }
    refused(status, error.code(), &error.message(), request_id)
}

/// The refusal of a request that is not believed.
pub(super) fn not_believed(error: &AuthError, request_id: &str) -> Answer {
    refused(400, error.json_code(), &error.to_string(), request_id)
}

/// AWS STS: who asks.
pub(super) fn identity(arn: &str, user_id: &str, account: &str, request_id: &str) -> Answer {
    let (arn, user_id) = (escaped(arn), escaped(user_id));
    let body = format!(
        "<GetCallerIdentityResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\">\n  \
         <GetCallerIdentityResult>\n    <Arn>{arn}</Arn>\n    <UserId>{user_id}</UserId>\n    \
         <Account>{account}</Account>\n  </GetCallerIdentityResult>\n  <ResponseMetadata>\n    \
         <RequestId>{request_id}</RequestId>\n  </ResponseMetadata>\n</GetCallerIdentityResponse>\n"
    );
    answer(StatusCode::OK, XML, body.into(), request_id)
}

/// A refusal in the query protocol.
pub(super) fn query_refused(status: u16, code: &str, message: &str, request_id: &str) -> Answer {
    let message = escaped(message);
    let body = format!(
        "<ErrorResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\">\n  <Error>\n    \
         <Type>Sender</Type>\n    <Code>{code}</Code>\n    <Message>{message}</Message>\n  </Error>\n  \
         <RequestId>{request_id}</RequestId>\n</ErrorResponse>\n"
    );
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_REQUEST);
    answer(status, XML, body.into(), request_id)
}

/// The health page.
pub(super) fn health(healthy: bool, request_id: &str) -> Answer {
    let (status, word) = if healthy {
        (StatusCode::OK, "ok")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "unavailable")
    };
    let body = json!({"status": word}).to_string();
    answer(status, "application/json", body.into(), request_id)
}

fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '"' => out.push_str("&quot;"),
            c if c.is_control() => out.push(' '),
            c => out.push(c),
        }
    }
    out
}
