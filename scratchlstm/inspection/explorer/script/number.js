"use strict";

function buildNumber() {}

function showNumber() {}
