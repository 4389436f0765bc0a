//! Random numbers from the operating system.

/// 64 random bits.
pub(crate) fn bits() -> u64 {
    #[expect(
        clippy::expect_used,
        reason = "getrandom(2) cannot fail on a running Linux"
    )]
    getrandom::u64().expect("the operating system gives random numbers")
}

/// 32 random bits, for jitter.
pub(crate) fn dice() -> u32 {
    u32::try_from(bits() >> 32).unwrap_or_default()
}
