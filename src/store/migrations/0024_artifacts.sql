-- Artifacts that are over by the rule of the settings are found by age.
CREATE INDEX artifacts_by_age ON artifacts(updated_at) WHERE state = 'READY';
