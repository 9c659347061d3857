-- One index for each filter of a list, in the list's order: a page is read where it begins, and nothing is sorted. Lists of alerts always
-- tell shadow rules from others.
CREATE INDEX alerts_list ON alerts (shadow, at, id);
CREATE INDEX alerts_list_status ON alerts (shadow, status, at, id);
CREATE INDEX alerts_list_severity ON alerts (shadow, severity, at, id);
CREATE INDEX alerts_list_rule ON alerts (shadow, rule_id, at, id);
CREATE INDEX alerts_list_entity ON alerts (shadow, entity, at, id);
CREATE INDEX dead_letters_list_reason ON dead_letters (reason, at, id);
CREATE INDEX dead_letters_list_plugin ON dead_letters (plugin, at, id);
CREATE INDEX sessions_list_employee ON sessions (employee_id, login_at, id);
CREATE INDEX sessions_list_store ON sessions (store_id, login_at, id);
CREATE INDEX sessions_list_terminal ON sessions (terminal_id, login_at, id);
CREATE INDEX orders_list_store ON orders (store_id, id);
