#include "bdh/config/config.h"
