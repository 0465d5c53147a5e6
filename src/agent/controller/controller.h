/* agent/controller/controller.h: `agent worker controller`: brings up workers by running a program of the company's,
 * one for each waiting request that it claims, or so many that a number of them is always idle. It uses the fleet API
 * (docs/api.md) and nothing else. Thread: the main one. */
#pragma once

int controller_main(int argc, char **argv);
