//! Random numbers from the operating system.

use uuid::{Builder, Uuid, Variant, Version};

/// 64 random bits.
///
/// # Panics
/// When the operating system has no randomness to give, which on Linux happens only before the
/// kernel has booted far enough to run us.
#[must_use]
pub fn bits() -> u64 {
    #[expect(
        clippy::expect_used,
        reason = "getrandom(2) cannot fail on a running Linux"
    )]
    getrandom::u64().expect("the operating system gives random numbers")
}

/// A random UUID (version 4, RFC 9562 §5.4).
#[must_use]
pub fn uuid() -> Uuid {
    Builder::from_u128((u128::from(bits()) << 64) | u128::from(bits()))
        .with_variant(Variant::RFC4122)
        .with_version(Version::Random)
        .into_uuid()
}

/// 32 random bits, for jitter.
#[must_use]
pub fn dice() -> u32 {
    u32::try_from(bits() >> 32).unwrap_or_default()
}
