-- One index for each filter of a list, in the list's order: a page is read where it begins, and nothing is sorted. Lists of alerts always
-- tell shadow rules from others.
-- Only where an index is missing: each statement commits by itself, and the migration may be run again after it.
SET @known = (SELECT COUNT(*) FROM information_schema.statistics
    WHERE table_schema = DATABASE() AND table_name = 'alerts' AND index_name = 'alerts_list');
SET @change = IF(@known = 0, 'CREATE INDEX alerts_list ON alerts (shadow, at, id)', 'DO 0');
PREPARE change_alerts_list FROM @change;
EXECUTE change_alerts_list;
DEALLOCATE PREPARE change_alerts_list;
SET @known = (SELECT COUNT(*) FROM information_schema.statistics
    WHERE table_schema = DATABASE() AND table_name = 'alerts' AND index_name = 'alerts_list_status');
SET @change = IF(@known = 0, 'CREATE INDEX alerts_list_status ON alerts (shadow, status, at, id)', 'DO 0');
PREPARE change_alerts_list_status FROM @change;
EXECUTE change_alerts_list_status;
DEALLOCATE PREPARE change_alerts_list_status;
SET @known = (SELECT COUNT(*) FROM information_schema.statistics
    WHERE table_schema = DATABASE() AND table_name = 'alerts' AND index_name = 'alerts_list_severity');
SET @change = IF(@known = 0, 'CREATE INDEX alerts_list_severity ON alerts (shadow, severity, at, id)', 'DO 0');
PREPARE change_alerts_list_severity FROM @change;
EXECUTE change_alerts_list_severity;
DEALLOCATE PREPARE change_alerts_list_severity;
SET @known = (SELECT COUNT(*) FROM information_schema.statistics
    WHERE table_schema = DATABASE() AND table_name = 'alerts' AND index_name = 'alerts_list_rule');
SET @change = IF(@known = 0, 'CREATE INDEX alerts_list_rule ON alerts (shadow, rule_id, at, id)', 'DO 0');
PREPARE change_alerts_list_rule FROM @change;
EXECUTE change_alerts_list_rule;
DEALLOCATE PREPARE change_alerts_list_rule;
SET @known = (SELECT COUNT(*) FROM information_schema.statistics
    WHERE table_schema = DATABASE() AND table_name = 'alerts' AND index_name = 'alerts_list_entity');
SET @change = IF(@known = 0, 'CREATE INDEX alerts_list_entity ON alerts (shadow, entity, at, id)', 'DO 0');
PREPARE change_alerts_list_entity FROM @change;
EXECUTE change_alerts_list_entity;
DEALLOCATE PREPARE change_alerts_list_entity;
SET @known = (SELECT COUNT(*) FROM information_schema.statistics
    WHERE table_schema = DATABASE() AND table_name = 'dead_letters' AND index_name = 'dead_letters_list_reason');
SET @change = IF(@known = 0, 'CREATE INDEX dead_letters_list_reason ON dead_letters (reason, at, id)', 'DO 0');
PREPARE change_dead_letters_list_reason FROM @change;
EXECUTE change_dead_letters_list_reason;
DEALLOCATE PREPARE change_dead_letters_list_reason;
SET @known = (SELECT COUNT(*) FROM information_schema.statistics
    WHERE table_schema = DATABASE() AND table_name = 'dead_letters' AND index_name = 'dead_letters_list_plugin');
SET @change = IF(@known = 0, 'CREATE INDEX dead_letters_list_plugin ON dead_letters (plugin, at, id)', 'DO 0');
PREPARE change_dead_letters_list_plugin FROM @change;
EXECUTE change_dead_letters_list_plugin;
DEALLOCATE PREPARE change_dead_letters_list_plugin;
SET @known = (SELECT COUNT(*) FROM information_schema.statistics
    WHERE table_schema = DATABASE() AND table_name = 'sessions' AND index_name = 'sessions_list_employee');
SET @change = IF(@known = 0, 'CREATE INDEX sessions_list_employee ON sessions (employee_id, login_at, id)', 'DO 0');
PREPARE change_sessions_list_employee FROM @change;
EXECUTE change_sessions_list_employee;
DEALLOCATE PREPARE change_sessions_list_employee;
SET @known = (SELECT COUNT(*) FROM information_schema.statistics
    WHERE table_schema = DATABASE() AND table_name = 'sessions' AND index_name = 'sessions_list_store');
SET @change = IF(@known = 0, 'CREATE INDEX sessions_list_store ON sessions (store_id, login_at, id)', 'DO 0');
PREPARE change_sessions_list_store FROM @change;
EXECUTE change_sessions_list_store;
DEALLOCATE PREPARE change_sessions_list_store;
SET @known = (SELECT COUNT(*) FROM information_schema.statistics
    WHERE table_schema = DATABASE() AND table_name = 'sessions' AND index_name = 'sessions_list_terminal');
SET @change = IF(@known = 0, 'CREATE INDEX sessions_list_terminal ON sessions (terminal_id, login_at, id)', 'DO 0');
PREPARE change_sessions_list_terminal FROM @change;
EXECUTE change_sessions_list_terminal;
DEALLOCATE PREPARE change_sessions_list_terminal;
SET @known = (SELECT COUNT(*) FROM information_schema.statistics
    WHERE table_schema = DATABASE() AND table_name = 'orders' AND index_name = 'orders_list_store');
SET @change = IF(@known = 0, 'CREATE INDEX orders_list_store ON orders (store_id, id)', 'DO 0');
PREPARE change_orders_list_store FROM @change;
EXECUTE change_orders_list_store;
DEALLOCATE PREPARE change_orders_list_store;
