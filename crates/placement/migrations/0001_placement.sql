-- Who has what, who uses it, and what has changed since when.

CREATE TABLE resource_classes (
  name VARCHAR(255) NOT NULL PRIMARY KEY,
  position BIGINT NOT NULL,
  created_at BIGINT NOT NULL,
  updated_at BIGINT NOT NULL
);

CREATE TABLE traits (
  name VARCHAR(255) NOT NULL PRIMARY KEY,
  created_at BIGINT NOT NULL
);

CREATE TABLE resource_providers (
  uuid VARCHAR(64) NOT NULL PRIMARY KEY,
  name VARCHAR(255) NOT NULL,
  generation BIGINT NOT NULL,
  parent VARCHAR(64),
  root VARCHAR(64) NOT NULL,
  revision BIGINT NOT NULL,
  created_at BIGINT NOT NULL,
  updated_at BIGINT NOT NULL,
  FOREIGN KEY (parent) REFERENCES resource_providers (uuid)
);
CREATE UNIQUE INDEX resource_providers_name ON resource_providers (name);
CREATE INDEX resource_providers_root ON resource_providers (root);
CREATE INDEX resource_providers_revision ON resource_providers (revision);

CREATE TABLE inventories (
  provider VARCHAR(64) NOT NULL,
  resource_class VARCHAR(255) NOT NULL,
  total BIGINT NOT NULL,
  reserved BIGINT NOT NULL,
  min_unit BIGINT NOT NULL,
  max_unit BIGINT NOT NULL,
  step_size BIGINT NOT NULL,
  allocation_ratio REAL NOT NULL,
  created_at BIGINT NOT NULL,
  updated_at BIGINT NOT NULL,
  PRIMARY KEY (provider, resource_class),
  FOREIGN KEY (provider) REFERENCES resource_providers (uuid),
  FOREIGN KEY (resource_class) REFERENCES resource_classes (name) ON UPDATE CASCADE
);
CREATE INDEX inventories_resource_class ON inventories (resource_class);

CREATE TABLE provider_traits (
  provider VARCHAR(64) NOT NULL,
  trait VARCHAR(255) NOT NULL,
  PRIMARY KEY (provider, trait),
  FOREIGN KEY (provider) REFERENCES resource_providers (uuid),
  FOREIGN KEY (trait) REFERENCES traits (name)
);
CREATE INDEX provider_traits_trait ON provider_traits (trait);

CREATE TABLE provider_aggregates (
  provider VARCHAR(64) NOT NULL,
  aggregate VARCHAR(64) NOT NULL,
  PRIMARY KEY (provider, aggregate),
  FOREIGN KEY (provider) REFERENCES resource_providers (uuid)
);

CREATE TABLE consumers (
  uuid VARCHAR(64) NOT NULL PRIMARY KEY,
  project_id VARCHAR(255) NOT NULL,
  user_id VARCHAR(255) NOT NULL,
  consumer_type VARCHAR(255),
  generation BIGINT NOT NULL,
  created_at BIGINT NOT NULL,
  updated_at BIGINT NOT NULL
);
CREATE INDEX consumers_project ON consumers (project_id, user_id);

CREATE TABLE allocations (
  consumer VARCHAR(64) NOT NULL,
  provider VARCHAR(64) NOT NULL,
  resource_class VARCHAR(255) NOT NULL,
  used BIGINT NOT NULL,
  created_at BIGINT NOT NULL,
  PRIMARY KEY (consumer, provider, resource_class),
  FOREIGN KEY (provider, resource_class) REFERENCES inventories (provider, resource_class) ON UPDATE CASCADE
);
CREATE INDEX allocations_provider ON allocations (provider, resource_class);

-- One row, raised as the last thing in every transaction that changes what candidates are chosen by.
CREATE TABLE epoch (
  id INTEGER NOT NULL PRIMARY KEY,
  value BIGINT NOT NULL,
  floor BIGINT NOT NULL
);
INSERT INTO epoch (id, value, floor) VALUES (1, 0, 0);

-- Providers that were deleted, for indexes that still have them.
CREATE TABLE gone (
  uuid VARCHAR(64) NOT NULL PRIMARY KEY,
  revision BIGINT NOT NULL
);
CREATE INDEX gone_revision ON gone (revision);
