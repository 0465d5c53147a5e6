-- What a user wants each agent of hers to be told.
CREATE TABLE user_rules(
    user_id BIGINT PRIMARY KEY,
    content TEXT NOT NULL,
    updated_at BIGINT NOT NULL
);
