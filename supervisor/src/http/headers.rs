//! The headers of answers that tell clients something: for the document, and for pages of other
//! origins, which may read these alone.

/// A header of answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Told {
    Location,
    Link,
    NextCursor,
    RequestId,
    RetryAfter,
    PreferenceApplied,
    WwwAuthenticate,
    AcceptPatch,
    Allow,
    ETag,
}

impl Told {
    pub(crate) const ALL: [Self; 10] = [
        Self::Location,
        Self::Link,
        Self::NextCursor,
        Self::RequestId,
        Self::RetryAfter,
        Self::PreferenceApplied,
        Self::WwwAuthenticate,
        Self::AcceptPatch,
        Self::Allow,
        Self::ETag,
    ];

    /// As clients write it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Location => "Location",
            Self::Link => "Link",
            Self::NextCursor => "X-Next-Cursor",
            Self::RequestId => "X-Request-Id",
            Self::RetryAfter => "Retry-After",
            Self::PreferenceApplied => "Preference-Applied",
            Self::WwwAuthenticate => "WWW-Authenticate",
            Self::AcceptPatch => "Accept-Patch",
            Self::Allow => "Allow",
            Self::ETag => "ETag",
        }
    }

    /// What it tells.
    pub(crate) const fn meaning(self) -> &'static str {
        match self {
            Self::Location => "The path at which the result is found.",
            Self::Link => "The next page (RFC 8288, `rel=\"next\"`); absent on the last.",
            Self::NextCursor => "The cursor of the next page; absent on the last.",
            Self::RequestId => {
                "The request's id: the client's own, if it sent one of 1 to 128 visible ASCII \
                 characters, else a new one."
            }
            Self::RetryAfter => "How many seconds to wait before asking again.",
            Self::PreferenceApplied => "What of `Prefer` was honoured (RFC 7240).",
            Self::WwwAuthenticate => {
                "What kind of token is required, and what is wrong (RFC 6750)."
            }
            Self::AcceptPatch => "The media type of patches (RFC 5789).",
            Self::Allow => "The methods that the path takes.",
            Self::ETag => "Names this version of the file, for `If-None-Match`.",
        }
    }

    /// Whether every answer that may have it does.
    pub(crate) const fn is_always_there(self) -> bool {
        match self {
            Self::Location | Self::RequestId | Self::Allow | Self::ETag => true,
            Self::Link
            | Self::NextCursor
            | Self::RetryAfter
            | Self::PreferenceApplied
            | Self::WwwAuthenticate
            | Self::AcceptPatch => false,
        }
    }
}
