-- Routers, floating IPs, subnet pools and address scopes.
CREATE TABLE routers (
    id VARCHAR(64) NOT NULL PRIMARY KEY,
    project_id VARCHAR(255) NOT NULL,
    name VARCHAR(255) NOT NULL,
    description VARCHAR(255) NOT NULL,
    admin_state_up BIGINT NOT NULL,
    status VARCHAR(16) NOT NULL,
    gateway_network_id VARCHAR(64),
    enable_snat BIGINT NOT NULL,
    distributed BIGINT NOT NULL,
    ha BIGINT NOT NULL,
    flavor_id VARCHAR(64),
    routes DOCUMENT NOT NULL,
    availability_zone_hints DOCUMENT NOT NULL,
    host VARCHAR(255) NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    revision_number BIGINT NOT NULL
);
CREATE INDEX routers_project ON routers (project_id);
CREATE INDEX routers_host ON routers (host);

-- generation: the one in which the address was joined to its port; a host that has applied it forwards.
CREATE TABLE floatingips (
    id VARCHAR(64) NOT NULL PRIMARY KEY,
    project_id VARCHAR(255) NOT NULL,
    description VARCHAR(255) NOT NULL,
    floating_network_id VARCHAR(64) NOT NULL,
    floating_ip_address VARCHAR(64) NOT NULL,
    floating_port_id VARCHAR(64) NOT NULL,
    port_id VARCHAR(64),
    fixed_ip_address VARCHAR(64),
    router_id VARCHAR(64),
    status VARCHAR(16) NOT NULL,
    dns_name VARCHAR(255) NOT NULL,
    dns_domain VARCHAR(255) NOT NULL,
    generation BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    revision_number BIGINT NOT NULL
);
CREATE UNIQUE INDEX floatingips_fixed ON floatingips (floating_network_id, port_id, fixed_ip_address);
CREATE UNIQUE INDEX floatingips_own_port ON floatingips (floating_port_id);
CREATE INDEX floatingips_project ON floatingips (project_id);
CREATE INDEX floatingips_router ON floatingips (router_id);
CREATE INDEX floatingips_port ON floatingips (port_id);

CREATE TABLE subnetpools (
    id VARCHAR(64) NOT NULL PRIMARY KEY,
    project_id VARCHAR(255) NOT NULL,
    name VARCHAR(255) NOT NULL,
    description VARCHAR(255) NOT NULL,
    ip_version BIGINT NOT NULL,
    prefixes DOCUMENT NOT NULL,
    default_prefixlen BIGINT NOT NULL,
    min_prefixlen BIGINT NOT NULL,
    max_prefixlen BIGINT NOT NULL,
    default_quota BIGINT,
    is_default BIGINT NOT NULL,
    address_scope_id VARCHAR(64),
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    revision_number BIGINT NOT NULL
);
CREATE INDEX subnetpools_project ON subnetpools (project_id);
CREATE INDEX subnetpools_scope ON subnetpools (address_scope_id);

CREATE TABLE address_scopes (
    id VARCHAR(64) NOT NULL PRIMARY KEY,
    project_id VARCHAR(255) NOT NULL,
    name VARCHAR(255) NOT NULL,
    ip_version BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    revision_number BIGINT NOT NULL
);
CREATE INDEX address_scopes_project ON address_scopes (project_id);
