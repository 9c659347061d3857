DROP TABLE refused_manifests;
DROP TABLE external_plugins;
