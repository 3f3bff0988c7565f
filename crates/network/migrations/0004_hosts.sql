-- Hosts and what they said last, the generation of what they should have, and events on their way to compute.
CREATE TABLE hosts (
    name VARCHAR(255) NOT NULL PRIMARY KEY,
    uuid VARCHAR(64) NOT NULL,
    tunnel_address VARCHAR(64) NOT NULL,
    physical DOCUMENT NOT NULL,
    driver VARCHAR(64) NOT NULL,
    lacks DOCUMENT NOT NULL,
    started_at BIGINT NOT NULL,
    heard_at BIGINT NOT NULL
);

-- The agents that guides and clients know; several of them are one host of ours.
CREATE TABLE agents (
    id VARCHAR(64) NOT NULL PRIMARY KEY,
    project_id VARCHAR(255) NOT NULL,
    host VARCHAR(255) NOT NULL,
    agent_type VARCHAR(64) NOT NULL,
    admin_state_up BIGINT NOT NULL,
    description VARCHAR(255),
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    revision_number BIGINT NOT NULL
);
CREATE UNIQUE INDEX agents_host ON agents (host, agent_type);

CREATE TABLE generation (
    id BIGINT NOT NULL PRIMARY KEY,
    value BIGINT NOT NULL
);
INSERT INTO generation (id, value) VALUES (1, 1);

CREATE TABLE events (
    id VARCHAR(64) NOT NULL PRIMARY KEY,
    created_at BIGINT NOT NULL,
    name VARCHAR(64) NOT NULL,
    server_id VARCHAR(64) NOT NULL,
    port_id VARCHAR(64),
    status VARCHAR(16) NOT NULL
);
CREATE INDEX events_age ON events (created_at);
