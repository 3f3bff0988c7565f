ALTER TABLE servers ADD COLUMN claimed_host VARCHAR(255);
CREATE INDEX servers_group ON servers (group_id);
