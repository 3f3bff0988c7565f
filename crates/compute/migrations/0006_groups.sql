CREATE TABLE server_groups (
    id VARCHAR(64) NOT NULL PRIMARY KEY,
    project_id VARCHAR(255) NOT NULL,
    user_id VARCHAR(255) NOT NULL,
    name VARCHAR(255) NOT NULL,
    policy VARCHAR(32) NOT NULL,
    most_per_host BIGINT,
    created_at BIGINT NOT NULL
);
CREATE INDEX server_groups_project ON server_groups (project_id);
CREATE TABLE aggregates (
    id BIGINT NOT NULL PRIMARY KEY,
    uuid VARCHAR(64) NOT NULL,
    name VARCHAR(255) NOT NULL,
    metadata DOCUMENT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT
);
CREATE UNIQUE INDEX aggregates_name ON aggregates (name);
CREATE TABLE aggregate_hosts (
    aggregate_id BIGINT NOT NULL,
    host VARCHAR(255) NOT NULL,
    PRIMARY KEY (aggregate_id, host)
);
