-- The schema of jatis, first release.
--
-- Two rules hold for everything below.
--   * Whatever belongs to a tenant has tenant_id as its first key column, and no foreign key to
--     tenants (tenant_configs aside): a cascade would lock and scan tables of any size inside the
--     deletion's transaction. The janitor removes a tenant's rows in small steps instead, and the
--     tenant's own row last, so that a tenant made again with the same id finds nothing of the old.
--   * A table that is swept by age has an index on the column that tells the age.
--
-- Words (state, topology, reason) are text without a CHECK on their list. A new word must not need
-- a change of the schema under load; the program refuses a word that it does not know.

-- Who serves this database. The holder has an advisory lock as well; the row says who it is, and
-- carries what must outlive a supervisor.
CREATE TABLE installation (
    instance          uuid,                        -- of the supervisor that holds or last held it
    host              text,
    pid               integer,
    epoch             bigint NOT NULL DEFAULT 0,   -- grows with every new holder
    hold_until        timestamptz,                 -- until then only the same instance may retake it
    last_tick         bigint NOT NULL DEFAULT 0,   -- no message id lies much above this tick
    system_identifier bigint,                      -- of the cluster that stored_xid was counted in
    xid_base          bigint NOT NULL DEFAULT 0,   -- added to transaction ids to make stored_xid
    xid_high          bigint NOT NULL DEFAULT 0    -- a recent value of stored_xid
);
-- At most one row: all rows have the same key.
CREATE UNIQUE INDEX installation_one_row ON installation ((true));
INSERT INTO installation DEFAULT VALUES;

-- A tenant's number is part of its message ids: 24 bits, never given twice. The column has no
-- default, because a default draws from the sequence even when the insert then meets a conflict.
CREATE SEQUENCE tenant_number AS integer MINVALUE 1 MAXVALUE 16777215 NO CYCLE;

CREATE TABLE tenants (
    id         uuid PRIMARY KEY,
    number     integer NOT NULL UNIQUE CHECK (number BETWEEN 1 AND 16777215),
    name       text NOT NULL,
    state      text NOT NULL,                      -- what is wanted: active, deleting, dropping
    topology   text NOT NULL,                      -- type of its main queue, fixed at creation
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
);
-- Deletions are few and tenants may be many: the janitor looks here every few seconds.
CREATE INDEX tenants_leaving ON tenants (state) WHERE state <> 'active';

CREATE TABLE tenant_configs (
    tenant_id  uuid PRIMARY KEY REFERENCES tenants (id) ON DELETE CASCADE,
    workers    integer NOT NULL CHECK (workers >= 1), -- no default: it is copied from the configuration
    settings   jsonb NOT NULL DEFAULT '{}',           -- what the tenant has of its own instead of the common
    updated_at timestamptz NOT NULL DEFAULT now()
);

-- What a new supervisor must know of a tenant's past workers.
CREATE TABLE tenant_runtime (
    tenant_id         uuid PRIMARY KEY,
    crash_times       timestamptz[] NOT NULL DEFAULT '{}', -- oldest first
    quarantined_until timestamptz,
    probe_step        smallint NOT NULL DEFAULT 0,
    suspects          jsonb NOT NULL DEFAULT '{}',         -- messages that were open when a worker died
    retry_rungs       bigint[] NOT NULL DEFAULT '{}',      -- delays, ms, of the retry queues it has
    updated_at        timestamptz NOT NULL DEFAULT now()
);

-- The messages, one partition ("leaf") a tenant. There is no default partition: it would have to be
-- scanned for every new leaf, and forbids detaching one concurrently.
-- stored_xid orders rows by the transaction that made them visible, for readers that follow the
-- table's end. The number added is installation.xid_base, raised when the database moves to a
-- cluster that counts lower.
-- The columns of fixed width stand first: payload before them would cost padding in every row.
CREATE TABLE messages (
    id         uuid NOT NULL,
    tenant_id  uuid NOT NULL,
    created_at timestamptz NOT NULL,
    stored_xid bigint NOT NULL DEFAULT (pg_current_xact_id()::text::bigint + 0),
    payload    jsonb NOT NULL,
    PRIMARY KEY (tenant_id, id)
) PARTITION BY LIST (tenant_id);
CREATE INDEX messages_stored_xid ON messages
    USING brin (stored_xid) WITH (pages_per_range = 32, autosummarize = on);

-- Messages that could not be stored. The payload is kept byte for byte: it may not even be JSON.
CREATE TABLE dead_letters (
    tenant_id       uuid NOT NULL,
    id              uuid NOT NULL,
    message_id      uuid NOT NULL,
    conflicts_with  uuid,                          -- the id it came with, when that holds another payload
    payload         bytea NOT NULL,
    content_type    text,
    headers         jsonb,
    reason          text NOT NULL,
    error           text,
    attempts        integer NOT NULL DEFAULT 1,
    first_failed_at timestamptz NOT NULL,
    dead_at         timestamptz NOT NULL,
    replayed_at     timestamptz,
    PRIMARY KEY (tenant_id, id),
    UNIQUE (tenant_id, message_id)                 -- redelivery of a dead message adds nothing
);
CREATE INDEX dead_letters_dead_at ON dead_letters (tenant_id, dead_at);

-- Ids of deleted messages, so that a late redelivery does not bring one back.
CREATE TABLE message_tombstones (
    tenant_id  uuid NOT NULL,
    id         uuid NOT NULL,
    deleted_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, id)
);
CREATE INDEX message_tombstones_deleted_at ON message_tombstones (deleted_at);

-- Counts, kept in the transactions that change what they count. Rows hold signed differences that
-- readers add up; each writing connection has a slot of its own, so none waits for another.
-- Half of each page stays free for updates in place; no index covers a count, so they stay in place.
CREATE TABLE message_counts (
    tenant_id uuid NOT NULL,
    bucket    integer NOT NULL,                    -- minute of created_at since 1970; -1: all time
    origin    smallint NOT NULL,                   -- 0: id minted at accept, 1: at consumption
    slot      smallint NOT NULL,                   -- the writer's connection; -1: the supervisor
    stored    bigint NOT NULL DEFAULT 0,           -- rows present
    dead      bigint NOT NULL DEFAULT 0,           -- dead letters present
    deleted   bigint NOT NULL DEFAULT 0,           -- only grows
    PRIMARY KEY (tenant_id, bucket, origin, slot)
) WITH (fillfactor = 50);
CREATE INDEX message_counts_bucket ON message_counts (bucket) WHERE bucket >= 0;

-- What was answered to clients, by the supervisor's epoch; a lower bound, flushed every second.
CREATE TABLE accept_counts (
    tenant_id  uuid NOT NULL,
    epoch      bigint NOT NULL,
    accepted   bigint NOT NULL DEFAULT 0,
    uncertain  bigint NOT NULL DEFAULT 0,          -- published, never confirmed
    flushed_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, epoch)
);

-- The message_id of what AMQP clients published. Bytes: such an id may hold a NUL.
CREATE TABLE amqp_keys (
    tenant_id  uuid NOT NULL,
    key        bytea NOT NULL,
    message_id uuid NOT NULL,
    seen_at    timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, key)
);
CREATE INDEX amqp_keys_seen_at ON amqp_keys (seen_at);

-- Idempotency-Key of HTTP requests, and what became of them.
CREATE TABLE idempotency_keys (
    tenant_id   uuid NOT NULL,
    key         text NOT NULL,
    body_sha256 bytea NOT NULL CHECK (octet_length(body_sha256) = 32),
    message_id  uuid NOT NULL,
    state       text NOT NULL,                     -- open, done
    status      smallint,                          -- HTTP status of the answer, once done
    created_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, key)
);
CREATE INDEX idempotency_keys_created_at ON idempotency_keys (created_at);
