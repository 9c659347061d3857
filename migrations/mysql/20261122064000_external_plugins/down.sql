DROP TABLE IF EXISTS refused_manifests;
DROP TABLE IF EXISTS external_plugins;
