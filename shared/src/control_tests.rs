use bytes::{BufMut, BytesMut};
use proptest::prelude::*;
use tokio_util::codec::{Decoder, Encoder};
use uuid::Uuid;

use super::*;
use crate::{
    authorities::{Authorities, MAX_FILE_BYTES},
    config::load::defaults,
};

fn frame<T>(body: T) -> Frame<T> {
    Frame {
        v: VERSION,
        generation: 3,
        id: 9,
        re: Some(4),
        body,
    }
}

fn encoded(event: &Frame<Event>) -> BytesMut {
    let mut bytes = BytesMut::new();
    WorkerCodec::default()
        .encode(event, &mut bytes)
        .expect("the frame is within its cap");
    bytes
}

#[test]
fn a_full_notice_of_stored_messages_fits_its_frame() {
    let ids = vec![MessageId::from(Uuid::max()); MAX_STORED_IDS];
    let event = frame(Event::Stored { ids });
    let mut bytes = encoded(&event);
    assert_eq!(
        SupervisorCodec::default()
            .decode(&mut bytes)
            .expect("a good frame"),
        Some(event)
    );
}

#[test]
fn a_spec_with_the_largest_files_of_authorities_fits_its_frame() {
    let signed = rcgen::generate_simple_self_signed(["test".to_owned()]);
    let pem = signed.expect("a certificate can be made").cert.pem();
    let pems = pem.repeat(MAX_FILE_BYTES / pem.len());
    let authorities = Authorities::from_pem(&pems).expect("it is not too large");
    let mut config = defaults().expect("config.yaml is valid");
    config.rabbitmq.authorities = authorities.clone();
    config.database.authorities = authorities.clone();
    let spec = frame(Command::Spec(Box::new(Spec {
        tenant: Uuid::max().into(),
        number: TenantNumber::try_from(1).expect("it is one"),
        threads: 1,
        connections: 1,
        paused: false,
        prefetch: config.prefetch(),
        probation: None,
        mint_floor: u64::MAX,
        orphan_timeout: config.supervision.orphan_timeout,
        drain_timeout: config.supervision.drain_timeout,
        heartbeat_interval: config.supervision.heartbeat_interval,
        rabbitmq: config.rabbitmq,
        database: config.database,
        worker: config.worker,
        log: config.log,
    })));
    let mut bytes = BytesMut::new();
    SupervisorCodec::default()
        .encode(&spec, &mut bytes)
        .expect("the frame is within its cap");
    let decoded = WorkerCodec::default().decode(&mut bytes);
    let body = decoded.expect("a good frame").map(|frame| frame.body);
    let Some(Command::Spec(spec)) = body else {
        panic!("not the spec: {body:?}");
    };
    assert_eq!(spec.rabbitmq.authorities, authorities);
    assert_eq!(spec.database.authorities, authorities);
}

#[test]
fn a_later_version_is_told_apart_from_a_later_word() {
    let decode = |json: &str| {
        let mut bytes = BytesMut::new();
        bytes.put_u32(u32::try_from(json.len()).expect("a short text"));
        bytes.put_slice(json.as_bytes());
        WorkerCodec::default().decode(&mut bytes)
    };
    let known =
        r#"{"v":1,"generation":1,"id":2,"later":true,"body":{"t":"Ping","nonce":7,"later":1}}"#;
    assert!(matches!(
        decode(known),
        Ok(Some(Frame {
            body: Command::Ping { nonce: 7 },
            ..
        }))
    ));
    let later_word = r#"{"v":1,"generation":1,"id":2,"body":{"t":"Dance","steps":3}}"#;
    assert!(matches!(
        decode(later_word),
        Ok(Some(Frame {
            body: Command::Unknown,
            ..
        }))
    ));
    let later_version = r#"{"v":2,"generation":1,"id":2,"body":{"t":"Ping","nonce":7}}"#;
    assert!(matches!(
        decode(later_version),
        Err(FrameError::Version { found: 2, .. })
    ));
    assert!(matches!(decode(""), Err(FrameError::Empty)));
    assert!(matches!(decode("[]"), Err(FrameError::Json(_))));
}

#[test]
fn a_frame_over_its_cap_is_refused_by_its_length_alone() {
    let over = u32::try_from(Event::MAX_FRAME_BYTES).expect("a cap fits u32") + 1;
    let mut bytes = BytesMut::from(&over.to_be_bytes()[..]);
    assert!(matches!(
        SupervisorCodec::default().decode(&mut bytes),
        Err(FrameError::Io(_))
    ));

    let long = frame(Event::Fault {
        detail: "x".repeat(Event::MAX_FRAME_BYTES),
    });
    assert!(
        WorkerCodec::default()
            .encode(&long, &mut BytesMut::new())
            .is_err()
    );
}

proptest! {
    #[test]
    fn frames_survive_any_split_of_the_stream(cut in 0_usize..500, detail: String) {
        let event = frame(Event::Fault { detail: detail.chars().take(200).collect() });
        let mut whole = encoded(&event);
        let tail = whole.split_off(cut % whole.len());
        let mut codec = SupervisorCodec::default();
        prop_assert_eq!(codec.decode(&mut whole).expect("half a frame is no error"), None);
        whole.unsplit(tail);
        prop_assert_eq!(codec.decode(&mut whole).expect("a good frame"), Some(event));
    }

    #[test]
    fn no_bytes_make_decoding_panic(bytes: Vec<u8>) {
        let mut bytes = BytesMut::from(&bytes[..]);
        let _verdict: Result<Option<Frame<Command>>, FrameError> = WorkerCodec::default().decode(&mut bytes);
    }
}
