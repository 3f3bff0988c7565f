CREATE TABLE flavors (
    id VARCHAR(255) NOT NULL PRIMARY KEY,
    name VARCHAR(255) NOT NULL,
    name_folded VARCHAR(255) NOT NULL,
    description DOCUMENT,
    memory_mb BIGINT NOT NULL,
    vcpus BIGINT NOT NULL,
    root_gb BIGINT NOT NULL,
    ephemeral_gb BIGINT NOT NULL,
    swap_mb BIGINT NOT NULL,
    rxtx_factor REAL NOT NULL,
    is_public BIGINT NOT NULL,
    disabled BIGINT NOT NULL,
    extra_specs DOCUMENT NOT NULL,
    created_at BIGINT NOT NULL
);
CREATE UNIQUE INDEX flavors_name ON flavors (name_folded);
CREATE TABLE flavor_access (
    flavor_id VARCHAR(255) NOT NULL,
    project_id VARCHAR(255) NOT NULL,
    PRIMARY KEY (flavor_id, project_id)
);
