"use strict";

function buildOverview() {}

function showOverview() {}
