"use strict";

function buildChange() {}

function showChange() {}
