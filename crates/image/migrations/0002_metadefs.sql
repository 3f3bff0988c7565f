-- Metadata definitions: namespaces, and what is in them.

CREATE TABLE metadef_namespaces (
    namespace VARCHAR(80) NOT NULL PRIMARY KEY,
    display_name VARCHAR(80),
    description DOCUMENT,
    visibility VARCHAR(32) NOT NULL,
    owner VARCHAR(255),
    protected BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
);

CREATE TABLE metadef_items (
    namespace VARCHAR(80) NOT NULL,
    kind VARCHAR(32) NOT NULL,
    name VARCHAR(80) NOT NULL,
    document DOCUMENT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    PRIMARY KEY (namespace, kind, name)
);
