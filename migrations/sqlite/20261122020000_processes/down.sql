DROP TABLE leases;
DROP TABLE processes;
