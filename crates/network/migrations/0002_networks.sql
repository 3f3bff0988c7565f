-- Networks, their segments and subnets, ports and their addresses, security groups.
CREATE TABLE networks (
    id VARCHAR(64) NOT NULL PRIMARY KEY,
    project_id VARCHAR(255) NOT NULL,
    name VARCHAR(255) NOT NULL,
    description VARCHAR(255) NOT NULL,
    admin_state_up BIGINT NOT NULL,
    status VARCHAR(16) NOT NULL,
    mtu BIGINT NOT NULL,
    port_security_enabled BIGINT NOT NULL,
    external BIGINT NOT NULL,
    is_default BIGINT NOT NULL,
    vlan_transparent BIGINT NOT NULL,
    qinq BIGINT NOT NULL,
    dns_domain VARCHAR(255) NOT NULL,
    availability_zone_hints DOCUMENT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    revision_number BIGINT NOT NULL
);
CREATE INDEX networks_project ON networks (project_id);
CREATE INDEX networks_name ON networks (name);

-- What carries a network. claim is unique: flat:physnet, vlan:physnet:100, vxlan:7, local:<network>.
CREATE TABLE segments (
    id VARCHAR(64) NOT NULL PRIMARY KEY,
    project_id VARCHAR(255) NOT NULL,
    network_id VARCHAR(64) NOT NULL,
    name VARCHAR(255),
    description VARCHAR(255),
    network_type VARCHAR(32) NOT NULL,
    physical_network VARCHAR(64),
    segmentation_id BIGINT,
    claim VARCHAR(160) NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    revision_number BIGINT NOT NULL
);
CREATE UNIQUE INDEX segments_claim ON segments (claim);
CREATE INDEX segments_network ON segments (network_id);

CREATE TABLE subnets (
    id VARCHAR(64) NOT NULL PRIMARY KEY,
    project_id VARCHAR(255) NOT NULL,
    network_id VARCHAR(64) NOT NULL,
    name VARCHAR(255) NOT NULL,
    description VARCHAR(255) NOT NULL,
    ip_version BIGINT NOT NULL,
    cidr VARCHAR(64) NOT NULL,
    gateway_ip VARCHAR(64),
    enable_dhcp BIGINT NOT NULL,
    ipv6_ra_mode VARCHAR(32),
    ipv6_address_mode VARCHAR(32),
    subnetpool_id VARCHAR(64),
    segment_id VARCHAR(64),
    allocation_pools DOCUMENT NOT NULL,
    dns_nameservers DOCUMENT NOT NULL,
    host_routes DOCUMENT NOT NULL,
    service_types DOCUMENT NOT NULL,
    dns_publish_fixed_ip BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    revision_number BIGINT NOT NULL
);
CREATE INDEX subnets_network ON subnets (network_id);
CREATE INDEX subnets_project ON subnets (project_id);
CREATE INDEX subnets_pool ON subnets (subnetpool_id);

CREATE TABLE ports (
    id VARCHAR(64) NOT NULL PRIMARY KEY,
    project_id VARCHAR(255) NOT NULL,
    network_id VARCHAR(64) NOT NULL,
    name VARCHAR(255) NOT NULL,
    description VARCHAR(255) NOT NULL,
    mac_address VARCHAR(32) NOT NULL,
    admin_state_up BIGINT NOT NULL,
    status VARCHAR(16) NOT NULL,
    device_id VARCHAR(255) NOT NULL,
    device_owner VARCHAR(255) NOT NULL,
    port_security_enabled BIGINT NOT NULL,
    host VARCHAR(255) NOT NULL,
    vnic_type VARCHAR(64) NOT NULL,
    vif_type VARCHAR(64) NOT NULL,
    vif_details DOCUMENT NOT NULL,
    profile DOCUMENT NOT NULL,
    allowed_address_pairs DOCUMENT NOT NULL,
    extra_dhcp_opts DOCUMENT NOT NULL,
    ip_allocation VARCHAR(16) NOT NULL,
    dns_name VARCHAR(255) NOT NULL,
    dns_domain VARCHAR(255) NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    revision_number BIGINT NOT NULL
);
CREATE UNIQUE INDEX ports_mac ON ports (network_id, mac_address);
CREATE INDEX ports_project ON ports (project_id);
CREATE INDEX ports_device ON ports (device_id);
CREATE INDEX ports_host ON ports (host);
CREATE INDEX ports_name ON ports (name);

-- The key is what makes two requests never get one address.
CREATE TABLE addresses (
    network_id VARCHAR(64) NOT NULL,
    ip_address VARCHAR(64) NOT NULL,
    subnet_id VARCHAR(64) NOT NULL,
    port_id VARCHAR(64) NOT NULL,
    place BIGINT NOT NULL,
    PRIMARY KEY (network_id, ip_address)
);
CREATE INDEX addresses_port ON addresses (port_id);
CREATE INDEX addresses_subnet ON addresses (subnet_id);

CREATE TABLE port_groups (
    port_id VARCHAR(64) NOT NULL,
    group_id VARCHAR(64) NOT NULL,
    PRIMARY KEY (port_id, group_id)
);
CREATE INDEX port_groups_group ON port_groups (group_id);

-- default_of is the project of a default group, and null for others.
CREATE TABLE security_groups (
    id VARCHAR(64) NOT NULL PRIMARY KEY,
    project_id VARCHAR(255) NOT NULL,
    name VARCHAR(255) NOT NULL,
    description VARCHAR(255) NOT NULL,
    stateful BIGINT NOT NULL,
    default_of VARCHAR(255),
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    revision_number BIGINT NOT NULL
);
CREATE UNIQUE INDEX security_groups_default ON security_groups (default_of);
CREATE INDEX security_groups_project ON security_groups (project_id);

CREATE TABLE security_group_rules (
    id VARCHAR(64) NOT NULL PRIMARY KEY,
    project_id VARCHAR(255) NOT NULL,
    security_group_id VARCHAR(64) NOT NULL,
    direction VARCHAR(16) NOT NULL,
    ethertype VARCHAR(8) NOT NULL,
    protocol VARCHAR(32),
    port_range_min BIGINT,
    port_range_max BIGINT,
    remote_ip_prefix VARCHAR(64),
    remote_group_id VARCHAR(64),
    remote_address_group_id VARCHAR(64),
    description VARCHAR(255),
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    revision_number BIGINT NOT NULL
);
CREATE INDEX security_group_rules_group ON security_group_rules (security_group_id);
CREATE INDEX security_group_rules_remote ON security_group_rules (remote_group_id);
CREATE INDEX security_group_rules_project ON security_group_rules (project_id);

-- Who else may use what: the word of a project to other projects. A target of * is everybody.
CREATE TABLE rbac_policies (
    id VARCHAR(64) NOT NULL PRIMARY KEY,
    project_id VARCHAR(255) NOT NULL,
    object_type VARCHAR(64) NOT NULL,
    object_id VARCHAR(64) NOT NULL,
    action VARCHAR(64) NOT NULL,
    target_project VARCHAR(255) NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    revision_number BIGINT NOT NULL
);
CREATE UNIQUE INDEX rbac_policies_one ON rbac_policies (object_id, action, target_project);
CREATE INDEX rbac_policies_target ON rbac_policies (object_type, target_project);

CREATE TABLE tags (
    resource_id VARCHAR(64) NOT NULL,
    tag VARCHAR(255) NOT NULL,
    PRIMARY KEY (resource_id, tag)
);
CREATE INDEX tags_tag ON tags (tag);
