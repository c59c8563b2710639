DROP TABLE bought_with;
DROP TABLE inbox;
