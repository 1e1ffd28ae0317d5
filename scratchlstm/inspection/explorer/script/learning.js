"use strict";

function buildLearning() {}

function showLearning() {}
