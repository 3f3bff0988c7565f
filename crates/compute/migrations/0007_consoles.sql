CREATE TABLE console_tokens (
    token_hash VARCHAR(64) NOT NULL PRIMARY KEY,
    server_id VARCHAR(64) NOT NULL,
    kind VARCHAR(32) NOT NULL,
    host VARCHAR(255) NOT NULL,
    port BIGINT NOT NULL,
    socket VARCHAR(255),
    expires_at BIGINT NOT NULL
);
CREATE INDEX console_tokens_server ON console_tokens (server_id);
CREATE INDEX console_tokens_expires ON console_tokens (expires_at);
