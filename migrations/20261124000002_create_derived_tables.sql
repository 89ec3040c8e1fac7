-- The derived tables: functions of the log and nothing else (no now(), no sequences, no defaults). They are made by a
-- function, so that a rebuild makes the same tables in a schema of its own: every name is resolved by search_path.

-- The id behind a prefix: 'team_<32 hex digits>' to a uuid.
CREATE FUNCTION id_uuid(prefixed text) RETURNS uuid LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS
$$ SELECT right(prefixed, 32)::uuid $$;

CREATE FUNCTION create_derived_tables() RETURNS void LANGUAGE plpgsql AS $body$
BEGIN
    -- The version of each boundary; the platform's is the nil uuid.
    CREATE TABLE boundary (
        id uuid PRIMARY KEY,
        version bigint NOT NULL
    );

    -- Entities. `body` is the fold's; the other columns are taken out of it for look-ups and constraints.
    CREATE TABLE organisation (
        id uuid PRIMARY KEY,
        organisation_id uuid NOT NULL CHECK (organisation_id = id),
        version bigint NOT NULL,
        position bigint NOT NULL,
        created_at timestamptz NOT NULL,
        updated_at timestamptz NOT NULL,
        body jsonb NOT NULL,
        name text GENERATED ALWAYS AS (body ->> 'name') STORED NOT NULL,
        CONSTRAINT organisation_name_taken UNIQUE (name)
    );
    CREATE TABLE team (
        id uuid PRIMARY KEY,
        organisation_id uuid NOT NULL REFERENCES organisation (id),
        version bigint NOT NULL,
        position bigint NOT NULL,
        created_at timestamptz NOT NULL,
        updated_at timestamptz NOT NULL,
        body jsonb NOT NULL,
        name text GENERATED ALWAYS AS (body ->> 'name') STORED NOT NULL
    );
    CREATE INDEX team_organisation ON team (organisation_id, created_at, id);
    CREATE TABLE app_user (
        id uuid PRIMARY KEY,
        organisation_id uuid NOT NULL REFERENCES organisation (id),
        version bigint NOT NULL,
        position bigint NOT NULL,
        created_at timestamptz NOT NULL,
        updated_at timestamptz NOT NULL,
        body jsonb NOT NULL
    );
    CREATE INDEX app_user_organisation ON app_user (organisation_id, created_at, id);
    CREATE TABLE membership (
        id uuid PRIMARY KEY,
        organisation_id uuid NOT NULL REFERENCES organisation (id),
        version bigint NOT NULL,
        position bigint NOT NULL,
        created_at timestamptz NOT NULL,
        updated_at timestamptz NOT NULL,
        body jsonb NOT NULL,
        team_id uuid GENERATED ALWAYS AS (id_uuid(body ->> 'team_id')) STORED NOT NULL REFERENCES team (id),
        user_id uuid GENERATED ALWAYS AS (id_uuid(body ->> 'user_id')) STORED NOT NULL REFERENCES app_user (id),
        CONSTRAINT membership_taken UNIQUE (team_id, user_id)
    );
    CREATE INDEX membership_organisation ON membership (organisation_id, created_at, id);
    CREATE INDEX membership_user ON membership (user_id);
    CREATE TABLE provider (
        id uuid PRIMARY KEY,
        organisation_id uuid NOT NULL REFERENCES organisation (id),
        version bigint NOT NULL,
        position bigint NOT NULL,
        created_at timestamptz NOT NULL,
        updated_at timestamptz NOT NULL,
        body jsonb NOT NULL,
        name text GENERATED ALWAYS AS (body ->> 'name') STORED NOT NULL,
        CONSTRAINT provider_name_taken UNIQUE (organisation_id, name)
    );
    CREATE INDEX provider_organisation ON provider (organisation_id, created_at, id);
    CREATE TABLE provider_key (
        id uuid PRIMARY KEY,
        organisation_id uuid NOT NULL REFERENCES organisation (id),
        version bigint NOT NULL,
        position bigint NOT NULL,
        created_at timestamptz NOT NULL,
        updated_at timestamptz NOT NULL,
        body jsonb NOT NULL,
        name text GENERATED ALWAYS AS (body ->> 'name') STORED NOT NULL,
        provider_id uuid GENERATED ALWAYS AS (id_uuid(body ->> 'provider_id')) STORED NOT NULL REFERENCES provider (id)
    );
    CREATE INDEX provider_key_organisation ON provider_key (organisation_id, created_at, id);
    CREATE INDEX provider_key_provider ON provider_key (provider_id);
    CREATE TABLE model (
        id uuid PRIMARY KEY,
        organisation_id uuid NOT NULL REFERENCES organisation (id),
        version bigint NOT NULL,
        position bigint NOT NULL,
        created_at timestamptz NOT NULL,
        updated_at timestamptz NOT NULL,
        body jsonb NOT NULL,
        name text GENERATED ALWAYS AS (body ->> 'name') STORED NOT NULL,
        provider_id uuid GENERATED ALWAYS AS (id_uuid(body ->> 'provider_id')) STORED NOT NULL REFERENCES provider (id),
        provider_key_id uuid GENERATED ALWAYS AS (id_uuid(body ->> 'provider_key_id')) STORED NOT NULL
            REFERENCES provider_key (id),
        CONSTRAINT model_name_taken UNIQUE (organisation_id, name)
    );
    CREATE INDEX model_organisation ON model (organisation_id, created_at, id);
    CREATE INDEX model_provider ON model (provider_id);
    CREATE INDEX model_provider_key ON model (provider_key_id);
    CREATE TABLE api_key (
        id uuid PRIMARY KEY,
        organisation_id uuid NOT NULL REFERENCES organisation (id),
        version bigint NOT NULL,
        position bigint NOT NULL,
        created_at timestamptz NOT NULL,
        updated_at timestamptz NOT NULL,
        body jsonb NOT NULL,
        name text GENERATED ALWAYS AS (body ->> 'name') STORED,
        team_id uuid GENERATED ALWAYS AS (id_uuid(body ->> 'team_id')) STORED REFERENCES team (id),
        user_id uuid GENERATED ALWAYS AS (id_uuid(body ->> 'user_id')) STORED REFERENCES app_user (id),
        secret_sha256 text GENERATED ALWAYS AS (body ->> 'secret_sha256') STORED NOT NULL,
        CONSTRAINT api_key_secret_taken UNIQUE (secret_sha256)
    );
    CREATE INDEX api_key_organisation ON api_key (organisation_id, created_at, id);
    CREATE INDEX api_key_team ON api_key (team_id);
    CREATE INDEX api_key_user ON api_key (user_id);
    CREATE TABLE api_key_rotation (
        key_id uuid NOT NULL,
        version bigint NOT NULL,
        organisation_id uuid NOT NULL,
        position bigint NOT NULL,
        rotated_at timestamptz NOT NULL,
        previous_key_preview text NOT NULL,
        previous_expires_at timestamptz,
        expires_at timestamptz,
        actor text NOT NULL,
        PRIMARY KEY (key_id, version)
    );
    CREATE TABLE model_grant (
        id uuid PRIMARY KEY,
        organisation_id uuid NOT NULL REFERENCES organisation (id),
        version bigint NOT NULL,
        position bigint NOT NULL,
        created_at timestamptz NOT NULL,
        updated_at timestamptz NOT NULL,
        body jsonb NOT NULL,
        key_id uuid GENERATED ALWAYS AS (id_uuid(body ->> 'key_id')) STORED NOT NULL REFERENCES api_key (id),
        model_id uuid GENERATED ALWAYS AS (id_uuid(body -> 'target' ->> 'id')) STORED NOT NULL REFERENCES model (id),
        CONSTRAINT model_grant_taken UNIQUE (key_id, model_id)
    );
    CREATE INDEX model_grant_organisation ON model_grant (organisation_id, created_at, id);
    CREATE INDEX model_grant_model ON model_grant (model_id);
    CREATE TABLE budget (
        id uuid PRIMARY KEY,
        organisation_id uuid NOT NULL REFERENCES organisation (id),
        version bigint NOT NULL,
        position bigint NOT NULL,
        created_at timestamptz NOT NULL,
        updated_at timestamptz NOT NULL,
        body jsonb NOT NULL,
        name text GENERATED ALWAYS AS (body ->> 'name') STORED,
        owner_kind text GENERATED ALWAYS AS (body -> 'owner' ->> 'type') STORED NOT NULL,
        owner_id uuid GENERATED ALWAYS AS (id_uuid(body -> 'owner' ->> 'id')) STORED NOT NULL
    );
    CREATE INDEX budget_organisation ON budget (organisation_id, created_at, id);
    CREATE INDEX budget_owner ON budget (owner_id);
    CREATE TABLE price_version (
        model_id uuid NOT NULL,
        version integer NOT NULL,
        organisation_id uuid NOT NULL,
        position bigint NOT NULL,
        source text NOT NULL,
        pricing jsonb,
        PRIMARY KEY (model_id, version)
    );

    -- What gateways and admins follow: the full new rows of each configuration version.
    CREATE TABLE config_delta (
        version bigint PRIMARY KEY,
        position bigint NOT NULL,
        body bytea NOT NULL
    );

    -- Every event but usage.finished, for people: one row an event, read by GET …/events.
    CREATE TABLE event (
        position bigint NOT NULL,
        ordinal integer NOT NULL,
        id uuid NOT NULL,
        kind text NOT NULL,
        entity_kind text NOT NULL,
        entity_id uuid NOT NULL,
        entity_version bigint NOT NULL,
        occurred_at timestamptz NOT NULL,
        organisation_id uuid,
        actor text NOT NULL,
        reason text,
        body bytea NOT NULL,
        PRIMARY KEY (position, ordinal)
    );
    CREATE INDEX event_organisation ON event (organisation_id, position);
    CREATE INDEX event_entity ON event (entity_id, position);

    -- Gateways by their journal's identity.
    CREATE TABLE gateway (
        id uuid PRIMARY KEY,
        epoch bigint NOT NULL,
        nonce text NOT NULL,
        state text NOT NULL CHECK (state IN ('open', 'closed', 'lost')),
        last_seq bigint NOT NULL,
        opened_at timestamptz NOT NULL,
        ended_at timestamptz,
        last_reclaim_id uuid,
        -- The newest generation for which it stated its leases.
        stated_generation bigint NOT NULL
    );

    -- Money. One account is one window of one budget; amounts are in its unit.
    CREATE TABLE account (
        budget_id uuid NOT NULL,
        window_start timestamptz NOT NULL,
        window_end timestamptz,
        organisation_id uuid NOT NULL,
        owner_kind text NOT NULL,
        owner_id uuid NOT NULL,
        unit text NOT NULL,
        mode text NOT NULL,
        limit_amount bigint NOT NULL,
        held bigint NOT NULL,
        settled bigint NOT NULL,
        breached bigint NOT NULL,
        closed boolean NOT NULL,
        position bigint NOT NULL,
        PRIMARY KEY (budget_id, window_start),
        CONSTRAINT account_not_negative CHECK (held >= 0 AND settled >= 0 AND breached >= 0)
    );
    CREATE INDEX account_open_end ON account (window_end) WHERE NOT closed;
    CREATE TABLE lease (
        budget_id uuid NOT NULL,
        window_start timestamptz NOT NULL,
        gateway_id uuid NOT NULL,
        granted bigint NOT NULL,
        settled bigint NOT NULL,
        returned bigint NOT NULL,
        position bigint NOT NULL,
        PRIMARY KEY (budget_id, window_start, gateway_id),
        CONSTRAINT lease_not_overdrawn CHECK (settled >= 0 AND returned >= 0 AND settled + returned <= granted)
    );
    CREATE INDEX lease_gateway ON lease (gateway_id);
    CREATE TABLE ledger_entry (
        position bigint NOT NULL,
        ordinal integer NOT NULL,
        budget_id uuid NOT NULL,
        window_start timestamptz NOT NULL,
        gateway_id uuid,
        kind text NOT NULL CHECK (kind IN ('grant', 'settle', 'return', 'breach', 'limit', 'state')),
        amount bigint NOT NULL,
        -- The usage record, event or budget behind the entry.
        reference uuid NOT NULL,
        PRIMARY KEY (position, ordinal)
    );
    CREATE INDEX ledger_entry_account ON ledger_entry (budget_id, window_start, position);

    -- One row a call. Partitions go by the day of recording, which does not depend on any gateway's clock.
    -- A row is named by its gateway and seq, so that it can be copied in before its position is known.
    CREATE TABLE usage (
        recorded_on date NOT NULL,
        gateway_id uuid NOT NULL,
        seq bigint NOT NULL,
        id uuid NOT NULL,
        request_id text NOT NULL,
        organisation_id uuid NOT NULL,
        team_id uuid,
        user_id uuid,
        key_id uuid NOT NULL,
        model_id uuid NOT NULL,
        provider_id uuid NOT NULL,
        model text NOT NULL,
        slug text NOT NULL,
        provider text NOT NULL,
        route text NOT NULL,
        stream boolean NOT NULL,
        status text NOT NULL,
        http_status smallint NOT NULL,
        estimated boolean NOT NULL,
        input_tokens bigint NOT NULL,
        cached_input_tokens bigint NOT NULL,
        cache_write_tokens bigint NOT NULL,
        output_tokens bigint NOT NULL,
        reasoning_tokens bigint NOT NULL,
        cost_nanos bigint NOT NULL,
        price_version integer NOT NULL,
        config_version bigint NOT NULL,
        started_at timestamptz NOT NULL,
        first_byte_at timestamptz,
        finished_at timestamptz NOT NULL,
        latency_ms bigint NOT NULL,
        -- breakdown, accounts, attempts, details, units, tags, end_user, provider_request_id, trace_id
        more jsonb NOT NULL,
        PRIMARY KEY (recorded_on, gateway_id, seq)
    ) PARTITION BY RANGE (recorded_on);
    CREATE INDEX usage_started ON usage USING brin (started_at);
    CREATE INDEX usage_organisation ON usage (organisation_id, started_at, id);
    CREATE INDEX usage_key ON usage (key_id, started_at);
    CREATE INDEX usage_id ON usage (id);
    CREATE INDEX usage_request ON usage (request_id);

    CREATE TABLE usage_hourly (
        organisation_id uuid NOT NULL,
        hour timestamptz NOT NULL,
        key_id uuid NOT NULL,
        model_id uuid NOT NULL,
        model text NOT NULL,
        requests bigint NOT NULL,
        errors bigint NOT NULL,
        input_tokens bigint NOT NULL,
        output_tokens bigint NOT NULL,
        cost_nanos bigint NOT NULL,
        PRIMARY KEY (organisation_id, hour, key_id, model_id, model)
    );
    CREATE TABLE usage_daily (
        organisation_id uuid NOT NULL,
        day date NOT NULL,
        key_id uuid NOT NULL,
        model_id uuid NOT NULL,
        model text NOT NULL,
        requests bigint NOT NULL,
        errors bigint NOT NULL,
        input_tokens bigint NOT NULL,
        output_tokens bigint NOT NULL,
        cost_nanos bigint NOT NULL,
        PRIMARY KEY (organisation_id, day, key_id, model_id, model)
    );

    -- Usage events that no known rule could read: their place is kept, their money stays held.
    CREATE TABLE dead_letter (
        position bigint NOT NULL,
        ordinal integer NOT NULL,
        gateway_id uuid NOT NULL,
        seq bigint NOT NULL,
        reason text NOT NULL,
        body bytea NOT NULL,
        PRIMARY KEY (position, ordinal)
    );
END $body$;

-- A day's partition of usage, made ahead of time and at need.
CREATE FUNCTION ensure_usage_partition(on_day date) RETURNS void LANGUAGE plpgsql AS $body$
DECLARE
    partition_name text := 'usage_' || to_char(on_day, 'YYYYMMDD');
BEGIN
    IF to_regclass(format('%I.%I', current_schema(), partition_name)) IS NULL THEN
        EXECUTE format(
            'CREATE TABLE IF NOT EXISTS %I PARTITION OF usage FOR VALUES FROM (%L) TO (%L)',
            partition_name, on_day, on_day + 1);
    END IF;
END $body$;

SELECT create_derived_tables();
