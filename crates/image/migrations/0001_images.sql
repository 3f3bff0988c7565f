-- Images, what belongs to them, and where deleted ones go.

CREATE TABLE images (
    id VARCHAR(64) NOT NULL PRIMARY KEY,
    owner VARCHAR(255),
    name VARCHAR(255),
    status VARCHAR(32) NOT NULL,
    visibility VARCHAR(32) NOT NULL,
    disk_format VARCHAR(32),
    container_format VARCHAR(32),
    size BIGINT,
    virtual_size BIGINT,
    checksum VARCHAR(32),
    os_hash_algo VARCHAR(64),
    os_hash_value VARCHAR(128),
    min_disk BIGINT NOT NULL,
    min_ram BIGINT NOT NULL,
    protected BIGINT NOT NULL,
    os_hidden BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    generation BIGINT NOT NULL
);

CREATE INDEX images_by_owner ON images (owner);
CREATE INDEX images_by_age ON images (created_at, id);
CREATE INDEX images_by_name ON images (name);

CREATE TABLE image_properties (
    image_id VARCHAR(64) NOT NULL,
    name VARCHAR(255) NOT NULL,
    value DOCUMENT NOT NULL,
    PRIMARY KEY (image_id, name)
);

CREATE INDEX image_properties_by_name ON image_properties (name);

CREATE TABLE image_tags (
    image_id VARCHAR(64) NOT NULL,
    value VARCHAR(255) NOT NULL,
    PRIMARY KEY (image_id, value)
);

CREATE INDEX image_tags_by_value ON image_tags (value);

CREATE TABLE image_members (
    image_id VARCHAR(64) NOT NULL,
    member VARCHAR(255) NOT NULL,
    status VARCHAR(32) NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    PRIMARY KEY (image_id, member)
);

CREATE INDEX image_members_by_member ON image_members (member);

-- has_file stays 1 until the file is known to be gone.
CREATE TABLE deleted_images (
    id VARCHAR(64) NOT NULL PRIMARY KEY,
    owner VARCHAR(255),
    name VARCHAR(255),
    deleted_at BIGINT NOT NULL,
    has_file BIGINT NOT NULL,
    document DOCUMENT NOT NULL
);

CREATE INDEX deleted_images_by_file ON deleted_images (has_file);
