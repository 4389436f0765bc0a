//! Whom the examples in the document are about. The examples themselves are values of the types that
//! bodies and answers are made of, so that they cannot be wrong.

use jatis_shared::ids::{MessageId, TenantId};
use jiff::Timestamp;
use uuid::Uuid;

/// The tenant of every example.
pub(crate) fn tenant() -> TenantId {
    Uuid::from_u128(0x6f9e_2d0c_58b1_4c37_9a64_d1f0_3b7e_82a5).into()
}

/// The message of every example; its time is in it.
pub(crate) fn message() -> MessageId {
    Uuid::from_u128(0x0199_ae83_5b1f_7d40_8000_0701_b2c3_d4e5).into()
}

/// When the examples take place.
pub(crate) fn now() -> Timestamp {
    message().created_at()
}
