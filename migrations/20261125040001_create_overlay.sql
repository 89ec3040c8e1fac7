-- Overlays of rate limits: a derived table like the other entities. `create_derived_tables` is what a rebuild calls, so
-- it makes the new one after all that it made before.
ALTER FUNCTION create_derived_tables() RENAME TO create_derived_tables_before_overlay;

CREATE FUNCTION create_overlay_table() RETURNS void LANGUAGE plpgsql AS $body$
BEGIN
    CREATE TABLE overlay (
        id uuid PRIMARY KEY,
        organisation_id uuid NOT NULL REFERENCES organisation (id),
        version bigint NOT NULL,
        position bigint NOT NULL,
        created_at timestamptz NOT NULL,
        updated_at timestamptz NOT NULL,
        body jsonb NOT NULL,
        name text GENERATED ALWAYS AS (body ->> 'name') STORED,
        scope_kind text GENERATED ALWAYS AS (body -> 'scope' ->> 'type') STORED NOT NULL,
        scope_id uuid GENERATED ALWAYS AS (id_uuid(body -> 'scope' ->> 'id')) STORED NOT NULL
    );
    CREATE INDEX overlay_organisation ON overlay (organisation_id, created_at, id);
    CREATE INDEX overlay_scope ON overlay (scope_id);
END
$body$;

CREATE FUNCTION create_derived_tables() RETURNS void LANGUAGE plpgsql AS $body$
BEGIN
    PERFORM create_derived_tables_before_overlay();
    PERFORM create_overlay_table();
END
$body$;

SELECT create_overlay_table();
