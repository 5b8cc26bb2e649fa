CREATE TABLE notes (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    organization_id text NOT NULL,
    body text NOT NULL
);
ALTER TABLE notes ENABLE ROW LEVEL SECURITY;
ALTER TABLE notes FORCE ROW LEVEL SECURITY;  -- for its owner too

CREATE POLICY own_organization ON notes
    USING (organization_id = NULLIF(current_setting('app.organization_id', true), ''));

GRANT SELECT, INSERT, UPDATE, DELETE ON notes TO app;
