"use strict";

function buildCompare() {}

function showCompare() {}
