-- The source tables: the permanent record and what is private. Nothing here is derived from anything else.

CREATE TABLE log_head (
    id smallint PRIMARY KEY CHECK (id = 1),
    position bigint NOT NULL CHECK (position >= 0)
);
INSERT INTO log_head (id, position) VALUES (1, 0);

-- The number of the newest configuration; every management entry raises it by one.
CREATE TABLE config_head (
    id smallint PRIMARY KEY CHECK (id = 1),
    version bigint NOT NULL CHECK (version >= 0)
);
INSERT INTO config_head (id, version) VALUES (1, 0);

CREATE TABLE generation (
    id smallint PRIMARY KEY CHECK (id = 1),
    generation bigint NOT NULL,
    -- What the projector found in Redis; another value there means that Redis is not the one it knew.
    redis_run_id text NOT NULL,
    -- The generation since which gateways state their leases: that in which Postgres was last found older than what
    -- Redis or a gateway had seen of it; 0: never.
    stating bigint NOT NULL,
    -- Whether every gateway that was there has done so: no hard money is granted before.
    stating_over boolean NOT NULL
);
INSERT INTO generation (id, generation, redis_run_id, stating, stating_over) VALUES (1, 0, '', 0, true);

-- Management entries and what the projector decided, one entry a position. Append-only.
CREATE TABLE event_log (
    position bigint PRIMARY KEY,
    source text NOT NULL CHECK (source IN ('management', 'projector')),
    -- Null: the platform's boundary, or none.
    boundary uuid,
    -- The boundary's and the configuration's version after this entry; null for what the projector decided.
    boundary_version bigint,
    config_version bigint UNIQUE,
    command_id uuid,
    recorded_at timestamptz NOT NULL,
    body bytea NOT NULL,
    sha256 bytea NOT NULL
);
CREATE UNIQUE INDEX event_log_command ON event_log (command_id) WHERE command_id IS NOT NULL;

-- Usage streams, one batch a position. The body is zstd of the packed events. Append-only.
CREATE TABLE usage_batch (
    position bigint PRIMARY KEY,
    gateway_id uuid NOT NULL,
    first_seq bigint NOT NULL,
    last_seq bigint NOT NULL CHECK (last_seq >= first_seq),
    recorded_at timestamptz NOT NULL,
    body bytea NOT NULL,
    sha256 bytea NOT NULL,
    UNIQUE (gateway_id, first_seq)
);

-- How far each stream has been folded: 'management' and 'usage:<gateway>'.
CREATE TABLE checkpoint (
    stream text PRIMARY KEY,
    generation bigint NOT NULL,
    seq bigint NOT NULL CHECK (seq >= 0)
);

-- What became of each command: the only deduplication.
CREATE TABLE command (
    id uuid PRIMARY KEY,
    outcome text NOT NULL CHECK (outcome IN ('done', 'rejected')),
    position bigint NOT NULL,
    config_version bigint,
    code text,
    detail text,
    recorded_at timestamptz NOT NULL
);

-- Asks that could not be granted yet, and the accounts that are short. Neither events nor folded.
CREATE TABLE parked_ask (
    budget_id uuid NOT NULL,
    window_start timestamptz NOT NULL,
    gateway_id uuid NOT NULL,
    must bigint NOT NULL,
    want bigint NOT NULL,
    reclaim_id uuid,
    asked_at timestamptz NOT NULL,
    PRIMARY KEY (budget_id, window_start, gateway_id)
);
CREATE TABLE scarce_account (
    budget_id uuid NOT NULL,
    window_start timestamptz NOT NULL,
    since timestamptz NOT NULL,
    PRIMARY KEY (budget_id, window_start)
);

-- Written by admin before it appends. Events carry only an id and a hash of what lies here.
CREATE TABLE sealed_secret (
    id uuid PRIMARY KEY,
    organisation_id uuid NOT NULL,
    provider_id uuid NOT NULL,
    envelope text NOT NULL,
    sha256 bytea NOT NULL,
    created_at timestamptz NOT NULL
);
CREATE TABLE subject_key (
    subject_id uuid PRIMARY KEY,
    wrapped_key bytea,
    created_at timestamptz NOT NULL,
    destroyed_at timestamptz
);
CREATE TABLE admin_credential (
    token_sha256 bytea PRIMARY KEY,
    name text NOT NULL UNIQUE,
    created_at timestamptz NOT NULL
);
CREATE TABLE idempotency (
    token_sha256 bytea NOT NULL,
    key text NOT NULL,
    request_sha256 bytea NOT NULL,
    command_id uuid NOT NULL,
    -- Null while the first request is under way or ended without a 2xx.
    status smallint,
    headers jsonb,
    body text,
    created_at timestamptz NOT NULL,
    PRIMARY KEY (token_sha256, key)
);
CREATE INDEX idempotency_age ON idempotency (created_at);

CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'table % is append-only', TG_TABLE_NAME;
END $$;
CREATE TRIGGER event_log_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON event_log
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER usage_batch_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON usage_batch
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
