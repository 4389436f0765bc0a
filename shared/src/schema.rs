//! Names in the database that more than one room must spell alike.

use crate::ids::TenantId;

/// Advisory lock held for a session by the one supervisor of a database.
pub const LOCK_SUPERVISOR: i64 = 0x6a61_7469_7301;
/// Advisory lock held for a transaction by whoever migrates or creates a tenant.
pub const LOCK_CREATE: i64 = 0x6a61_7469_7302;
/// Advisory lock held for a session by the janitor that drops the leaves of deleted tenants.
pub const LOCK_JANITOR: i64 = 0x6a61_7469_7303;

/// The partition of `messages` that holds one tenant's rows, and nothing else does:
/// `messages_` and the tenant's uuid with `_` for `-`. Safe to put into SQL as it is.
#[must_use]
pub fn leaf(tenant: TenantId) -> String {
    format!("messages_{}", tenant.to_string().replace('-', "_"))
}

/// `tenants.state`: what is wanted of a tenant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TenantState {
    /// Its worker shall run.
    Active,
    /// Its worker shall run and consume nothing; messages are accepted.
    Paused,
    /// It shall have no worker; messages are accepted.
    Stopped,
    /// Its worker stores what is queued, then it is deleted; publishing answers 410.
    Draining,
    /// Its worker is drained and its queues are removed; publishing answers 410.
    Deleting,
    /// Queues and worker are gone, nothing of it is visible; the janitor takes its rows away.
    Dropping,
}

impl TenantState {
    /// Every state, for the reference and its test.
    pub const ALL: [Self; 6] = [
        Self::Active,
        Self::Paused,
        Self::Stopped,
        Self::Draining,
        Self::Deleting,
        Self::Dropping,
    ];

    /// As stored.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Paused => "paused",
            Self::Stopped => "stopped",
            Self::Draining => "draining",
            Self::Deleting => "deleting",
            Self::Dropping => "dropping",
        }
    }

    /// From what is stored; `None` for a word this version does not know.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == word)
    }
}

#[cfg(test)]
mod tests {
    use uuid::uuid;

    use super::*;

    #[test]
    fn a_leaf_is_named_after_its_tenant() {
        let tenant = TenantId::from(uuid!("0190d3a2-7c3e-7c3e-8c3e-0190d3a27c3e"));
        assert_eq!(
            leaf(tenant),
            "messages_0190d3a2_7c3e_7c3e_8c3e_0190d3a27c3e"
        );
    }
}
