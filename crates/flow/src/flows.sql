-- Work that outlives its request, what of it is done, and who is at it.
CREATE TABLE flows (
  id VARCHAR(64) NOT NULL PRIMARY KEY,
  service VARCHAR(64) NOT NULL,
  kind VARCHAR(64) NOT NULL,
  version INTEGER NOT NULL,
  resource VARCHAR(255) NOT NULL,
  request_id VARCHAR(64) NOT NULL,
  order_json DOCUMENT NOT NULL,
  state VARCHAR(16) NOT NULL,
  cancelled INTEGER NOT NULL,
  woken BIGINT NOT NULL,
  failed_step VARCHAR(255),
  error_code VARCHAR(255),
  error DOCUMENT,
  owner VARCHAR(64),
  fence BIGINT NOT NULL,
  holding VARCHAR(255),
  created_at BIGINT NOT NULL,
  updated_at BIGINT NOT NULL
);
-- Two flows never work on one resource: whoever works holds its name.
CREATE UNIQUE INDEX flows_holding ON flows (holding);
CREATE INDEX flows_state ON flows (state, created_at);
CREATE INDEX flows_resource ON flows (resource);

CREATE TABLE flow_steps (
  flow_id VARCHAR(64) NOT NULL,
  name VARCHAR(255) NOT NULL,
  position INTEGER NOT NULL,
  result DOCUMENT,
  undone INTEGER NOT NULL,
  PRIMARY KEY (flow_id, name)
);

CREATE TABLE leases (
  name VARCHAR(255) NOT NULL PRIMARY KEY,
  owner VARCHAR(64) NOT NULL,
  fence BIGINT NOT NULL,
  counter BIGINT NOT NULL,
  pokes BIGINT NOT NULL
);
