CREATE TABLE hosts (
    name VARCHAR(255) NOT NULL PRIMARY KEY,
    uuid VARCHAR(64) NOT NULL,
    number BIGINT NOT NULL,
    facts DOCUMENT NOT NULL,
    disabled BIGINT NOT NULL,
    disabled_reason VARCHAR(255),
    forced_down BIGINT NOT NULL,
    seen_at BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
);
CREATE UNIQUE INDEX hosts_uuid ON hosts (uuid);
CREATE TABLE servers (
    id VARCHAR(64) NOT NULL PRIMARY KEY,
    number BIGINT NOT NULL,
    project_id VARCHAR(255) NOT NULL,
    user_id VARCHAR(255) NOT NULL,
    name VARCHAR(255) NOT NULL,
    description VARCHAR(255),
    hostname VARCHAR(255) NOT NULL,
    vm_state VARCHAR(32) NOT NULL,
    task_state VARCHAR(64),
    power_state BIGINT NOT NULL,
    progress BIGINT NOT NULL,
    flavor_id VARCHAR(255) NOT NULL,
    flavor DOCUMENT NOT NULL,
    vcpus BIGINT NOT NULL,
    memory_mb BIGINT NOT NULL,
    image_id VARCHAR(64),
    image DOCUMENT NOT NULL,
    key_name VARCHAR(255),
    key_data DOCUMENT,
    availability_zone VARCHAR(255),
    pinned_zone VARCHAR(255),
    host VARCHAR(255),
    config_drive BIGINT NOT NULL,
    user_data DOCUMENT,
    admin_password VARCHAR(255),
    metadata DOCUMENT NOT NULL,
    tags DOCUMENT NOT NULL,
    scheduler_hints DOCUMENT NOT NULL,
    trusted_certificates DOCUMENT,
    network_requests DOCUMENT NOT NULL,
    network_info DOCUMENT NOT NULL,
    security_groups DOCUMENT NOT NULL,
    group_id VARCHAR(64),
    locked BIGINT NOT NULL,
    locked_by VARCHAR(16),
    locked_reason VARCHAR(255),
    access_ip_v4 VARCHAR(64),
    access_ip_v6 VARCHAR(64),
    disk_config VARCHAR(16) NOT NULL,
    reservation_id VARCHAR(64) NOT NULL,
    launch_index BIGINT NOT NULL,
    root_device_name VARCHAR(64),
    fault DOCUMENT,
    desired VARCHAR(16) NOT NULL,
    generation BIGINT NOT NULL,
    restarts BIGINT NOT NULL,
    restart_kind VARCHAR(8) NOT NULL,
    disk_generation BIGINT NOT NULL,
    report DOCUMENT,
    deleting BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    launched_at BIGINT,
    terminated_at BIGINT
);
CREATE INDEX servers_project ON servers (project_id, created_at);
CREATE INDEX servers_host ON servers (host);
CREATE TABLE servers_deleted (
    id VARCHAR(64) NOT NULL PRIMARY KEY,
    number BIGINT NOT NULL,
    project_id VARCHAR(255) NOT NULL,
    host VARCHAR(255),
    deleted_at BIGINT NOT NULL,
    row_document DOCUMENT NOT NULL
);
CREATE INDEX servers_deleted_project ON servers_deleted (project_id, deleted_at);
CREATE TABLE actions (
    request_id VARCHAR(64) NOT NULL,
    server_id VARCHAR(64) NOT NULL,
    action VARCHAR(64) NOT NULL,
    user_id VARCHAR(255),
    project_id VARCHAR(255),
    message VARCHAR(255),
    started_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    PRIMARY KEY (server_id, request_id)
);
CREATE TABLE action_events (
    id VARCHAR(64) NOT NULL PRIMARY KEY,
    server_id VARCHAR(64) NOT NULL,
    request_id VARCHAR(64) NOT NULL,
    event VARCHAR(255) NOT NULL,
    started_at BIGINT NOT NULL,
    finished_at BIGINT,
    result VARCHAR(32),
    host VARCHAR(255),
    details DOCUMENT
);
CREATE INDEX action_events_request ON action_events (server_id, request_id);
