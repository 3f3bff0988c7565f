CREATE TABLE quotas (
    project_id VARCHAR(255) NOT NULL,
    resource VARCHAR(255) NOT NULL,
    hard_limit BIGINT NOT NULL,
    PRIMARY KEY (project_id, resource)
);
CREATE TABLE quota_locks (
    project_id VARCHAR(255) NOT NULL PRIMARY KEY,
    taken BIGINT NOT NULL
);
