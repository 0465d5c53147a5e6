-- Who else may read an agent in the dashboard: nobody, or the members of its team.
ALTER TABLE agents ADD COLUMN visibility TEXT NOT NULL DEFAULT 'private';
