-- A domain is a project that has no domain: then domain_id is empty, and names of domains are unique like those of
-- projects within one domain.
CREATE TABLE projects (
    id VARCHAR(64) NOT NULL PRIMARY KEY,
    name VARCHAR(64) NOT NULL,
    domain_id VARCHAR(64) NOT NULL,
    parent_id VARCHAR(64),
    is_domain INTEGER NOT NULL,
    enabled INTEGER NOT NULL,
    description TEXT,
    extra DOCUMENT NOT NULL,
    options DOCUMENT NOT NULL
);
CREATE UNIQUE INDEX projects_name ON projects (domain_id, name);
CREATE INDEX projects_parent ON projects (parent_id);

CREATE TABLE project_tags (
    project_id VARCHAR(64) NOT NULL,
    name VARCHAR(255) NOT NULL,
    PRIMARY KEY (project_id, name)
);

-- The password columns are those of the password in force; NULL means that there is none.
CREATE TABLE users (
    id VARCHAR(64) NOT NULL PRIMARY KEY,
    domain_id VARCHAR(64) NOT NULL,
    name VARCHAR(255) NOT NULL,
    enabled INTEGER NOT NULL,
    default_project_id VARCHAR(64),
    password_hash VARCHAR(255),
    password_created_at BIGINT,
    password_expires_at BIGINT,
    password_self_service INTEGER NOT NULL,
    failed_auth_count BIGINT NOT NULL,
    failed_auth_at BIGINT,
    last_active_at BIGINT,
    created_at BIGINT NOT NULL,
    extra DOCUMENT NOT NULL,
    options DOCUMENT NOT NULL
);
CREATE UNIQUE INDEX users_name ON users (domain_id, name);

-- Earlier passwords and the one in force, as far back as [security_compliance] unique_last_password_count asks for.
CREATE TABLE password_history (
    id VARCHAR(64) NOT NULL PRIMARY KEY,
    user_id VARCHAR(64) NOT NULL,
    hash VARCHAR(255) NOT NULL,
    created_at BIGINT NOT NULL
);
CREATE INDEX password_history_user ON password_history (user_id, created_at);

CREATE TABLE user_groups (
    id VARCHAR(64) NOT NULL PRIMARY KEY,
    domain_id VARCHAR(64) NOT NULL,
    name VARCHAR(64) NOT NULL,
    description TEXT,
    extra DOCUMENT NOT NULL
);
CREATE UNIQUE INDEX user_groups_name ON user_groups (domain_id, name);

CREATE TABLE memberships (
    user_id VARCHAR(64) NOT NULL,
    group_id VARCHAR(64) NOT NULL,
    PRIMARY KEY (user_id, group_id)
);
CREATE INDEX memberships_group ON memberships (group_id);

-- The domain of a global role is empty.
CREATE TABLE roles (
    id VARCHAR(64) NOT NULL PRIMARY KEY,
    name VARCHAR(255) NOT NULL,
    domain_id VARCHAR(64) NOT NULL,
    description TEXT,
    extra DOCUMENT NOT NULL,
    options DOCUMENT NOT NULL
);
CREATE UNIQUE INDEX roles_name ON roles (domain_id, name);

CREATE TABLE implied_roles (
    prior_role_id VARCHAR(64) NOT NULL,
    implied_role_id VARCHAR(64) NOT NULL,
    PRIMARY KEY (prior_role_id, implied_role_id)
);

-- actor_kind is user or group; target_kind is project, domain or system, whose only id is «system».
CREATE TABLE assignments (
    actor_kind VARCHAR(8) NOT NULL,
    actor_id VARCHAR(64) NOT NULL,
    target_kind VARCHAR(8) NOT NULL,
    target_id VARCHAR(64) NOT NULL,
    role_id VARCHAR(64) NOT NULL,
    inherited INTEGER NOT NULL,
    PRIMARY KEY (actor_id, target_id, role_id, actor_kind, target_kind, inherited)
);
CREATE INDEX assignments_target ON assignments (target_id);
CREATE INDEX assignments_role ON assignments (role_id);

CREATE TABLE regions (
    id VARCHAR(255) NOT NULL PRIMARY KEY,
    description TEXT NOT NULL,
    parent_region_id VARCHAR(255),
    extra DOCUMENT NOT NULL
);

CREATE TABLE services (
    id VARCHAR(64) NOT NULL PRIMARY KEY,
    "type" VARCHAR(255) NOT NULL,
    name VARCHAR(255),
    enabled INTEGER NOT NULL,
    extra DOCUMENT NOT NULL
);

CREATE TABLE endpoints (
    id VARCHAR(64) NOT NULL PRIMARY KEY,
    service_id VARCHAR(64) NOT NULL,
    region_id VARCHAR(255),
    interface VARCHAR(8) NOT NULL,
    url TEXT NOT NULL,
    enabled INTEGER NOT NULL,
    extra DOCUMENT NOT NULL
);
CREATE INDEX endpoints_service ON endpoints (service_id);

CREATE TABLE endpoint_groups (
    id VARCHAR(64) NOT NULL PRIMARY KEY,
    name VARCHAR(255) NOT NULL,
    description TEXT,
    filters DOCUMENT NOT NULL
);

CREATE TABLE project_endpoints (
    project_id VARCHAR(64) NOT NULL,
    endpoint_id VARCHAR(64) NOT NULL,
    PRIMARY KEY (project_id, endpoint_id)
);

CREATE TABLE project_endpoint_groups (
    project_id VARCHAR(64) NOT NULL,
    endpoint_group_id VARCHAR(64) NOT NULL,
    PRIMARY KEY (project_id, endpoint_group_id)
);

CREATE TABLE policies (
    id VARCHAR(64) NOT NULL PRIMARY KEY,
    "type" VARCHAR(255) NOT NULL,
    "blob" DOCUMENT NOT NULL,
    extra DOCUMENT NOT NULL
);

-- What is sealed is sealed with the credential keys; key_hash tells which one.
CREATE TABLE credentials (
    id VARCHAR(64) NOT NULL PRIMARY KEY,
    user_id VARCHAR(64) NOT NULL,
    project_id VARCHAR(64),
    "type" VARCHAR(255) NOT NULL,
    sealed DOCUMENT NOT NULL,
    key_hash VARCHAR(64) NOT NULL,
    extra DOCUMENT NOT NULL
);
CREATE INDEX credentials_user ON credentials (user_id);

-- NULL in access_rule_ids: the credential may call anything that its roles allow.
CREATE TABLE application_credentials (
    id VARCHAR(64) NOT NULL PRIMARY KEY,
    name VARCHAR(255) NOT NULL,
    user_id VARCHAR(64) NOT NULL,
    project_id VARCHAR(64) NOT NULL,
    secret_hash VARCHAR(255) NOT NULL,
    description TEXT,
    expires_at BIGINT,
    unrestricted INTEGER NOT NULL,
    role_ids DOCUMENT NOT NULL,
    access_rule_ids DOCUMENT,
    created_at BIGINT NOT NULL
);
CREATE UNIQUE INDEX application_credentials_name ON application_credentials (user_id, name);

CREATE TABLE access_rules (
    id VARCHAR(64) NOT NULL PRIMARY KEY,
    user_id VARCHAR(64) NOT NULL,
    service VARCHAR(64) NOT NULL,
    path VARCHAR(128) NOT NULL,
    method VARCHAR(16) NOT NULL
);
CREATE UNIQUE INDEX access_rules_content ON access_rules (user_id, service, path, method);

CREATE TABLE trusts (
    id VARCHAR(64) NOT NULL PRIMARY KEY,
    trustor_user_id VARCHAR(64) NOT NULL,
    trustee_user_id VARCHAR(64) NOT NULL,
    project_id VARCHAR(64),
    impersonation INTEGER NOT NULL,
    expires_at BIGINT,
    remaining_uses BIGINT,
    redelegated_trust_id VARCHAR(64),
    redelegation_count BIGINT NOT NULL,
    deleted_at BIGINT,
    role_ids DOCUMENT NOT NULL,
    extra DOCUMENT NOT NULL
);
CREATE INDEX trusts_trustor ON trusts (trustor_user_id);
CREATE INDEX trusts_trustee ON trusts (trustee_user_id);

-- The region is empty where the limit has none.
CREATE TABLE registered_limits (
    id VARCHAR(64) NOT NULL PRIMARY KEY,
    service_id VARCHAR(64) NOT NULL,
    region_id VARCHAR(255) NOT NULL,
    resource_name VARCHAR(255) NOT NULL,
    default_limit BIGINT NOT NULL,
    description TEXT
);
CREATE UNIQUE INDEX registered_limits_resource ON registered_limits (service_id, region_id, resource_name);

-- Either the project or the domain is empty.
CREATE TABLE limits (
    id VARCHAR(64) NOT NULL PRIMARY KEY,
    project_id VARCHAR(64) NOT NULL,
    domain_id VARCHAR(64) NOT NULL,
    registered_limit_id VARCHAR(64) NOT NULL,
    resource_limit BIGINT NOT NULL,
    description TEXT
);
CREATE UNIQUE INDEX limits_target ON limits (project_id, domain_id, registered_limit_id);

CREATE TABLE domain_options (
    domain_id VARCHAR(64) NOT NULL,
    section VARCHAR(64) NOT NULL,
    name VARCHAR(128) NOT NULL,
    value DOCUMENT NOT NULL,
    PRIMARY KEY (domain_id, section, name)
);

CREATE TABLE consumers (
    id VARCHAR(64) NOT NULL PRIMARY KEY,
    description TEXT,
    secret VARCHAR(64) NOT NULL,
    extra DOCUMENT NOT NULL
);

-- Tokens that every column named here fits are void if they were issued before. Empty columns fit every token.
CREATE TABLE revocations (
    id VARCHAR(64) NOT NULL PRIMARY KEY,
    user_id VARCHAR(64) NOT NULL,
    project_id VARCHAR(64) NOT NULL,
    domain_id VARCHAR(64) NOT NULL,
    audit_id VARCHAR(32) NOT NULL,
    audit_chain_id VARCHAR(32) NOT NULL,
    issued_before BIGINT NOT NULL,
    revoked_at BIGINT NOT NULL
);
CREATE INDEX revocations_subject ON revocations (audit_id, user_id, project_id, domain_id);
CREATE INDEX revocations_time ON revocations (revoked_at);

-- Raised by every transaction that may change what a token is good for; other controllers look at it.
CREATE TABLE epochs (
    name VARCHAR(16) NOT NULL PRIMARY KEY,
    value BIGINT NOT NULL
);
INSERT INTO epochs (name, value) VALUES ('tokens', 1);
