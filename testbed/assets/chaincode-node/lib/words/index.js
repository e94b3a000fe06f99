// A package of its own inside the chaincode: npm makes a link to this directory in `node_modules`.
'use strict';

exports.missing = (key) => `${key} does not exist`;
