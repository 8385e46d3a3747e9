//! The bytes of a record, and not its shape alone: what reads logs may go by them.

use std::sync::Arc;

use super::super::caller::{Caller, Principal, Source};
use super::super::clock::Timestamp;
use super::super::error::Result;
use super::super::id::MaterialId;
use super::{Event, KeyUse, Parameters, shape};
use crate::format::VolumeId;

struct Given(&'static str);

impl Parameters for Given {
    fn write_json(&self, out: &mut Vec<u8>) -> Result<()> {
        out.extend_from_slice(self.0.as_bytes());
        Ok(())
    }
}

#[test]
fn the_record_of_a_volume_that_uses_a_key() {
    let volume = VolumeId(*b"0123456789abcdef");
    let region = "eu-central-1".parse().unwrap();
    let caller = Caller::new(Principal::Volume(volume), "123456789012", region);
    let caller = caller.with_source(Source {
        uid: Some(1000),
        pid: Some(4321),
        request_id: Some("id".to_owned()),
        ..Source::default()
    });
    let keys = [KeyUse {
        arn: Arc::from("arn:aws:kms:eu-central-1:123456789012:key/k"),
        material: Some(MaterialId([0x9f; 32])),
    }];
    let event = Event {
        time: Timestamp::from_millis(1_760_000_000_007),
        caller: &caller,
        operation: "Decrypt",
        read_only: true,
        keys: &keys,
        parameters: Some(&Given(r#"{"keyId":"k"}"#)),
        error: None,
        forced: None,
        event_id: *b"fedcba9876543210",
        may_wait: false,
    };
    let mut line = Vec::new();
    shape::write(&mut line, &event).unwrap();
    let expected = concat!(
        r#"{"eventVersion":"1.11","userIdentity":{"type":"AssumedRole","#,
        r#""principalId":"envelopefs:volume:30313233343536373839616263646566","#,
        r#""invokedBy":"envelopefs","arn":"arn:aws:sts::123456789012:assumed-role/"#,
        r#"envelopefs:volume/30313233343536373839616263646566","#,
        r#""accountId":"123456789012"},"eventTime":"2025-10-09T08:53:20.007Z","#,
        r#""eventSource":"kms.amazonaws.com","eventName":"Decrypt","#,
        r#""awsRegion":"eu-central-1","sourceIPAddress":"local","userAgent":"envelopefs/"#,
        env!("CARGO_PKG_VERSION"),
        r#"","requestParameters":{"keyId":"k"},"responseElements":null,"#,
        r#""additionalEventData":{"keyMaterialId":""#,
        "9f9f9f9f9f9f9f9f9f9f9f9f9f9f9f9f9f9f9f9f9f9f9f9f9f9f9f9f9f9f9f9f",
        r#""},"requestID":"id","eventID":"66656463-6261-4938-b736-353433323130","#,
        r#""readOnly":true,"resources":[{"accountId":"123456789012","#,
        r#""type":"AWS::KMS::Key","ARN":"arn:aws:kms:eu-central-1:123456789012:key/k"}],"#,
        r#""eventType":"AwsApiCall","managementEvent":true,"#,
        r#""recipientAccountId":"123456789012","eventCategory":"Management","#,
        r#""envelopefs":{"uid":1000,"pid":4321"#,
    );
    assert_eq!(String::from_utf8(line).unwrap(), expected);
}
