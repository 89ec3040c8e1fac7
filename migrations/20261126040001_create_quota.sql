-- Quotas, and accounts of any rule: a budget or a quota, of one subject among many, in any unit, with what is carried from
-- window to window and the thresholds that were crossed. What stands here is changed in place, and a rebuild makes the
-- tables in the same steps, so that both have the same columns in the same order.

-- The id of an owner that is an entity: a tag or an end user is none.
CREATE FUNCTION owner_uuid(owner jsonb) RETURNS uuid LANGUAGE sql IMMUTABLE PARALLEL SAFE AS
$$ SELECT CASE WHEN owner ->> 'type' IN ('tag', 'end_user') THEN NULL ELSE right(owner ->> 'id', 32)::uuid END $$;

CREATE FUNCTION create_quota_table() RETURNS void LANGUAGE plpgsql AS $body$
BEGIN
    CREATE TABLE quota (
        id uuid PRIMARY KEY,
        organisation_id uuid NOT NULL REFERENCES organisation (id),
        version bigint NOT NULL,
        position bigint NOT NULL,
        created_at timestamptz NOT NULL,
        updated_at timestamptz NOT NULL,
        body jsonb NOT NULL,
        name text GENERATED ALWAYS AS (body ->> 'name') STORED,
        owner_kind text GENERATED ALWAYS AS (body -> 'owner' ->> 'type') STORED NOT NULL,
        owner_id uuid GENERATED ALWAYS AS (owner_uuid(body -> 'owner')) STORED
    );
    CREATE INDEX quota_organisation ON quota (organisation_id, created_at, id);
    CREATE INDEX quota_owner ON quota (owner_id);
END
$body$;

CREATE FUNCTION generalise_accounts() RETURNS void LANGUAGE plpgsql AS $body$
BEGIN
    ALTER TABLE budget DROP COLUMN owner_id;
    ALTER TABLE budget ADD COLUMN owner_id uuid GENERATED ALWAYS AS (owner_uuid(body -> 'owner')) STORED;
    CREATE INDEX budget_owner ON budget (owner_id);

    ALTER TABLE account RENAME COLUMN budget_id TO rule_id;
    ALTER TABLE account
        ADD COLUMN rule_kind text NOT NULL DEFAULT 'budget' CHECK (rule_kind IN ('budget', 'quota')),
        -- Nil, or a digest of the tag value or end user that this account counts.
        ADD COLUMN subject uuid NOT NULL DEFAULT '00000000-0000-0000-0000-000000000000',
        ADD COLUMN carried_in bigint NOT NULL DEFAULT 0,
        ADD COLUMN carried_out bigint NOT NULL DEFAULT 0,
        ADD COLUMN rollover boolean NOT NULL DEFAULT false,
        ADD COLUMN thresholds smallint[] NOT NULL DEFAULT '{50,80,90,100}',
        ADD COLUMN crossed smallint NOT NULL DEFAULT 0;
    UPDATE account SET crossed = CASE
            WHEN settled >= limit_amount THEN 100
            WHEN settled::numeric * 100 >= limit_amount::numeric * 90 THEN 90
            WHEN settled::numeric * 100 >= limit_amount::numeric * 80 THEN 80
            WHEN settled::numeric * 100 >= limit_amount::numeric * 50 THEN 50
            ELSE 0 END
        WHERE limit_amount > 0;
    ALTER TABLE account
        ALTER COLUMN rule_kind DROP DEFAULT,
        ALTER COLUMN subject DROP DEFAULT,
        ALTER COLUMN carried_in DROP DEFAULT,
        ALTER COLUMN carried_out DROP DEFAULT,
        ALTER COLUMN rollover DROP DEFAULT,
        ALTER COLUMN thresholds DROP DEFAULT,
        ALTER COLUMN crossed DROP DEFAULT,
        -- As text: a tag or an end user has no other name.
        ALTER COLUMN owner_id TYPE text USING
            CASE owner_kind WHEN 'organisation' THEN 'org' ELSE owner_kind END
                || '_' || replace(owner_id::text, '-', ''),
        DROP CONSTRAINT account_pkey,
        ADD PRIMARY KEY (rule_id, subject, window_start);
    CREATE INDEX account_rollover ON account (window_end) WHERE closed AND rollover;

    ALTER TABLE lease RENAME COLUMN budget_id TO rule_id;
    ALTER TABLE lease ADD COLUMN subject uuid NOT NULL DEFAULT '00000000-0000-0000-0000-000000000000';
    ALTER TABLE lease
        ALTER COLUMN subject DROP DEFAULT,
        DROP CONSTRAINT lease_pkey,
        ADD PRIMARY KEY (rule_id, subject, window_start, gateway_id);

    ALTER TABLE ledger_entry RENAME COLUMN budget_id TO rule_id;
    ALTER TABLE ledger_entry ADD COLUMN subject uuid NOT NULL DEFAULT '00000000-0000-0000-0000-000000000000';
    ALTER TABLE ledger_entry
        ALTER COLUMN subject DROP DEFAULT,
        DROP CONSTRAINT ledger_entry_kind_check,
        ADD CONSTRAINT ledger_entry_kind_check
            CHECK (kind IN ('grant', 'settle', 'return', 'breach', 'limit', 'state', 'carry'));
    DROP INDEX ledger_entry_account;
    CREATE INDEX ledger_entry_account ON ledger_entry (rule_id, subject, window_start, position);
END
$body$;

ALTER FUNCTION create_derived_tables() RENAME TO create_derived_tables_before_quota;

CREATE FUNCTION create_derived_tables() RETURNS void LANGUAGE plpgsql AS $body$
BEGIN
    PERFORM create_derived_tables_before_quota();
    PERFORM create_quota_table();
    PERFORM generalise_accounts();
END
$body$;

SELECT create_quota_table();
SELECT generalise_accounts();

-- Neither events nor folded, and old within seconds.
DELETE FROM parked_ask;
DELETE FROM scarce_account;
ALTER TABLE parked_ask RENAME COLUMN budget_id TO rule_id;
ALTER TABLE parked_ask
    ADD COLUMN rule_kind text NOT NULL CHECK (rule_kind IN ('budget', 'quota')),
    ADD COLUMN subject uuid NOT NULL,
    DROP CONSTRAINT parked_ask_pkey,
    ADD PRIMARY KEY (rule_id, subject, window_start, gateway_id);
ALTER TABLE scarce_account RENAME COLUMN budget_id TO rule_id;
ALTER TABLE scarce_account
    ADD COLUMN rule_kind text NOT NULL CHECK (rule_kind IN ('budget', 'quota')),
    ADD COLUMN subject uuid NOT NULL,
    DROP CONSTRAINT scarce_account_pkey,
    ADD PRIMARY KEY (rule_id, subject, window_start);
