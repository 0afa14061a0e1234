SELECT * FROM es_load(:name);
